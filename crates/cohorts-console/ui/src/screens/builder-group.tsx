// A group of criteria in the builder: how they are joined, each of them, and buttons that add more.

import { useRef } from 'preact/hooks';
import { newCohort, newCreated, newEvent, newProperty, duplicate, move, remove, setJoin, update, wrap } from '../model/edit';
import { problem } from '../model/check';
import { criterion, group as newGroup, isGroup } from '../model/filter';
import type { Criterion, Group, Node } from '../model/filter';
import { sentence, text } from '../model/sentence';
import { number } from '../parts/format';
import { Icon } from '../parts/icons';
import { Menu } from '../parts/menu';
import { names } from '../state/catalogue';
import type { Preview } from './builder-preview';
import { CriterionEditor } from './builder-criterion';

interface Properties {
  root: Group;
  group: Group;
  preview: Preview;
  /** Whether incomplete criteria are marked. */
  isStrict: boolean;
  depth: number;
  change: (root: Group, undo?: string) => void;
  append: (groupId: number, node: Node) => void;
}

export function GroupEditor(properties: Properties) {
  const { root, group, preview, change, depth } = properties;
  const error = preview.nodeError?.id === group.id ? preview.nodeError.reason : undefined;
  const isRoot = depth === 0;
  return (
    <div class={isRoot ? 'group-edit root' : 'group-edit'} role="group" aria-label={group.join === 'AND' ? 'All of these' : 'At least one of these'}>
      <header>
        <label class="join-choice">
          <span>{isRoot ? 'Persons who match' : 'Match'}</span>
          <select value={group.join} aria-label="How criteria are joined" onChange={(event) => change(setJoin(root, group.id, event.currentTarget.value === 'OR' ? 'OR' : 'AND'))}>
            <option value="AND">all of these</option>
            <option value="OR">at least one of these</option>
          </select>
        </label>
        {!isRoot && <NodeActions {...properties} node={group} what="group" />}
        {isRoot && preview.counts.size > 0 && <small class="faint legend">Each number: persons who match that criterion alone</small>}
      </header>
      {error && (
        <p class="problem" role="alert">
          {error}
        </p>
      )}
      <ul class="nodes">
        {group.nodes.map((node, at) => (
          <li key={node.id}>
            {at > 0 && <span class="join">{group.join === 'AND' ? 'and' : 'or'}</span>}
            {isGroup(node) ? <GroupEditor {...properties} group={node} depth={depth + 1} /> : <CriterionRow {...properties} criterion={node} />}
          </li>
        ))}
      </ul>
      {group.nodes.length === 0 && <p class="faint">{isRoot ? 'No criteria yet. What did these persons do, or what are they like?' : 'An empty group is left out.'}</p>}
      <AddButtons {...properties} />
    </div>
  );
}

function AddButtons({ group, append, depth }: Properties) {
  const bar = useRef<HTMLDivElement>(null);
  const add = (node: Node) => {
    append(group.id, node);
    requestAnimationFrame(() => {
      const rows = bar.current?.parentElement?.querySelectorAll(':scope > .nodes > li');
      rows?.[rows.length - 1]?.querySelector<HTMLElement>('input[role="combobox"]')?.focus();
    });
  };
  const other = group.join === 'AND' ? 'OR' : 'AND';
  return (
    <div class="add" role="group" aria-label="Add" ref={bar}>
      <button type="button" onClick={() => add(criterion(newEvent()))}>
        <Icon name="add" />
        Event
      </button>
      <button type="button" onClick={() => add(criterion(newProperty()))}>
        <Icon name="add" />
        Property
      </button>
      <button type="button" onClick={() => add(criterion(newCohort()))}>
        <Icon name="add" />
        Cohort
      </button>
      <button type="button" onClick={() => add(criterion(newCreated()))}>
        <Icon name="add" />
        First seen
      </button>
      {depth < 6 && (
        <button type="button" onClick={() => add(newGroup(other, []))}>
          <Icon name="group" />
          Group
        </button>
      )}
    </div>
  );
}

function CriterionRow(properties: Properties & { criterion: Criterion }) {
  const { root, criterion: node, preview, change, isStrict } = properties;
  const missing = problem(node);
  const error = preview.nodeError?.id === node.id ? preview.nodeError.reason : isStrict ? missing : undefined;
  const count = missing ? undefined : preview.counts.get(node.id);
  return (
    <div class={error ? 'criterion-edit wrong' : 'criterion-edit'} role="group" aria-label={text(sentence(node, names))}>
      <div class="criterion-words">
        <CriterionEditor criterion={node} isStrict={isStrict} change={(next) => change(update(root, node.id, () => next))} />
        {error && (
          <p class="problem" role="alert">
            {error}
          </p>
        )}
      </div>
      <span class={preview.isPending ? 'count pending' : 'count'} title="Persons who match this criterion alone" data-testid="criterion-count">
        {count === undefined ? '' : number(count)}
      </span>
      <NodeActions {...properties} node={node} what="criterion" />
    </div>
  );
}

function NodeActions({ root, change, node, what }: Properties & { node: Node; what: 'criterion' | 'group' }) {
  const removed = what === 'group' ? 'The group is removed.' : 'The criterion is removed.';
  return (
    <span class="node-actions">
      <Menu isQuiet label={`More for the ${what}`} face={<Icon name="more" />}>
        <button type="button" onClick={() => change(duplicate(root, node.id))}>
          Duplicate
        </button>
        {!isGroup(node) && (
          <button type="button" onClick={() => change(update(root, node.id, (former) => ({ ...former, negated: !former.negated })))}>
            {node.negated ? 'Remove “not”' : 'Turn into “not”'}
          </button>
        )}
        {!isGroup(node) && (
          <button type="button" onClick={() => change(wrap(root, node.id))}>
            Put into a group
          </button>
        )}
        <button type="button" onClick={() => change(move(root, node.id, -1))}>
          Move up
        </button>
        <button type="button" onClick={() => change(move(root, node.id, 1))}>
          Move down
        </button>
      </Menu>
      <button type="button" class="quiet square" aria-label={`Remove the ${what}`} onClick={() => change(remove(root, node.id), removed)}>
        <Icon name="close" />
      </button>
    </span>
  );
}
