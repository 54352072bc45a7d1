// The result of the draft: how many persons, who enters and leaves, and some of them.

import type { Cohort } from '../api/types';
import { number, persons, plural } from '../parts/format';
import { Failure } from '../parts/state';
import { PersonLink } from './members';
import type { Preview } from './builder-preview';

interface Properties {
  preview: Preview;
  isEmpty: boolean;
  incomplete: number;
  cohort: Cohort | undefined;
}

export function Result({ preview, isEmpty, incomplete, cohort }: Properties) {
  const { count, sample, compared, error, isPending, nodeError, milliseconds } = preview;
  const without = incomplete === 0 ? '' : `without ${plural(incomplete, 'incomplete criterion').replace('criterions', 'criteria')}`;
  return (
    <section class="panel result" aria-label="Result">
      <h2>Persons who match</h2>
      <p class={isPending ? 'total pending' : 'total'} role="status" aria-live="polite" data-testid="total">
        {count === undefined ? '–' : number(count)}
      </p>
      <p class="faint">
        {isEmpty && 'Add a criterion to see who matches.'}
        {!isEmpty && nodeError && 'Correct the criterion that is marked.'}
        {!isEmpty && !nodeError && (without || (milliseconds !== undefined ? `counted in ${milliseconds < 10 ? milliseconds.toFixed(1) : Math.round(milliseconds)} ms` : ' '))}
      </p>
      {cohort && compared && (
        <dl class="compared">
          <div class="entering">
            <dt>would enter</dt>
            <dd>{number(compared.entering)}</dd>
          </div>
          <div class="leaving">
            <dt>would leave</dt>
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
      {count === 0 && !nodeError && <p>No person matches. Look for the criterion with {persons(0)}.</p>}
    </section>
  );
}
