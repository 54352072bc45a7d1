// The result of the draft: how many persons, who enters and leaves, and some of them.

import { number } from '../parts/format';
import { Failure } from '../parts/state';
import { PersonLink } from './members';
import type { Preview } from './builder-preview';

interface Properties {
  preview: Preview;
  /** What to do; otherwise the duration is shown. */
  note: string | undefined;
  /** Why the number is not final. */
  partial?: string | undefined;
  /** What to do if no person matches. */
  none: string;
}

/** The words for a filter. */
export function filterNote({ nodeError, count, error, isPending }: Preview, isEmpty: boolean): string | undefined {
  if (isEmpty) return 'Add a criterion to see who matches.';
  if (nodeError) return 'Correct the criterion that is marked.';
  return count === undefined && error === undefined && !isPending ? 'Complete a criterion to see who matches.' : undefined;
}

export function Result({ preview, note, partial, none }: Properties) {
  const { count, sample, compared, error, isPending, milliseconds } = preview;
  return (
    <section class="panel result" aria-label="Result">
      <h2>Persons who match</h2>
      <p class={`total${isPending ? ' pending' : ''}${partial ? ' partial' : ''}`} role="status" aria-live="polite" data-testid="total">
        {count === undefined ? '–' : number(count)}
      </p>
      {partial && <p class="not-final">{partial}</p>}
      {(note !== undefined || !partial) && <p class="faint">{note ?? (milliseconds === undefined ? ' ' : `counted in ${milliseconds < 10 ? milliseconds.toFixed(1) : Math.round(milliseconds)} ms`)}</p>}
      {compared && (
        <dl class="compared">
          <div class="entering">
            <dt>
              <span class="wide">would </span>enter
            </dt>
            <dd>{number(compared.entering)}</dd>
          </div>
          <div class="leaving">
            <dt>
              <span class="wide">would </span>leave
            </dt>
            <dd>{number(compared.leaving)}</dd>
          </div>
          <div>
            <dt>stay</dt>
            <dd>{number(compared.staying)}</dd>
          </div>
        </dl>
      )}
      {error !== undefined && <Failure error={error} />}
      {sample.length > 0 && (
        <>
          <h3>For example</h3>
          <ul class="sample">
            {sample.map((person) => (
              <li key={person.id}>
                <PersonLink person={person} />
              </li>
            ))}
          </ul>
        </>
      )}
      {count === 0 && <p>No person matches. {none}</p>}
    </section>
  );
}
