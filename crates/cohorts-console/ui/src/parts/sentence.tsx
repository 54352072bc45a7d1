// Criteria in words, as a tree with a count each.

import { isGroup } from '../model/filter';
import type { Group, Node } from '../model/filter';
import { sentence } from '../model/sentence';
import type { Names, Part } from '../model/sentence';
import { href } from '../state/router';
import { number } from './format';

export function Sentence({ parts }: { parts: Part[] }) {
  return (
    <span class="sentence">
      {parts.map((part, at) => (
        <span key={at}>
          {part.text === ',' || part.text.startsWith(', ') || at === 0 ? '' : ' '}
          {part.cohort !== undefined ? <a href={href(`/cohorts/${part.cohort}`)}>{part.text}</a> : part.strong ? <b>{part.text}</b> : part.text}
        </span>
      ))}
    </span>
  );
}

interface Properties {
  group: Group;
  names: Names;
  /** The number of persons of each criterion, by its id. */
  counts: Map<number, number>;
  depth?: number;
}

export function CriteriaTree({ group, names, counts, depth = 0 }: Properties) {
  return (
    <ul class="criteria" data-depth={depth}>
      {group.nodes.map((node, at) => (
        <li key={node.id}>
          {at > 0 && <span class="join">{group.join === 'AND' ? 'and' : 'or'}</span>}
          <Branch node={node} names={names} counts={counts} depth={depth} />
        </li>
      ))}
    </ul>
  );
}

function Branch({ node, names, counts, depth }: { node: Node; names: Names; counts: Map<number, number>; depth: number }) {
  if (isGroup(node)) {
    const only = node.nodes.length === 1 ? node.nodes[0] : undefined;
    if (only) return <Branch node={only} names={names} counts={counts} depth={depth} />;
    return (
      <div class="group" role="group" aria-label={node.join === 'AND' ? 'All of these' : 'At least one of these'}>
        <CriteriaTree group={node} names={names} counts={counts} depth={depth + 1} />
      </div>
    );
  }
  const count = counts.get(node.id);
  return (
    <div class="criterion-line">
      <Sentence parts={sentence(node, names)} />
      <span class="count" title="Persons who match this criterion alone">
        {count === undefined ? '' : number(count)}
      </span>
    </div>
  );
}
