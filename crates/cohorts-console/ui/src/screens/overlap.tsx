// The common members of chosen cohorts as a matrix, and the difference between two of them. The choice stays behind `#`.

import { useState } from 'preact/hooks';
import { cohorts as requests } from '../api/resources';
import type { Cohort, CohortOverlap } from '../api/types';
import { number, percent, persons, plural } from '../parts/format';
import { SearchField } from '../parts/field';
import { LiveMark, useChanged } from '../parts/live';
import { useLoad } from '../parts/load';
import { Empty, Show, useTitle } from '../parts/state';
import { saveDraft } from '../state/draft';
import { go, href, place, setHidden } from '../state/router';
import { session } from '../state/session';
import { Compare } from './compare';

/** Most cohorts of a request. */
const MOST = 100;
/** The share from which on a cell is marked. */
const [SOME, MUCH] = [0.2, 0.6];

const numbersOf = (text: string | null) => (text ?? '').split(',').map(Number).filter((id) => Number.isSafeInteger(id) && id > 0);
const nameOf = (cohort: Cohort) => cohort.name || `Cohort ${cohort.id}`;

export function OverlapScreen() {
  useTitle('Overlap');
  const all = useLoad((signal) => requests.all(signal), []);
  return (
    <div class="screen">
      <header class="title">
        <div class="heading">
          <h1>Overlap</h1>
          <LiveMark />
        </div>
      </header>
      <p class="lead">How many members cohorts have in common. Choose two or more.</p>
      <Show loaded={all} what="the cohorts">
        {(list) => <Chosen all={list} />}
      </Show>
    </div>
  );
}

function Chosen({ all }: { all: Cohort[] }) {
  const { hidden } = place.value;
  const byId = new Map(all.map((cohort) => [cohort.id, cohort]));
  const chosen = numbersOf(hidden.get('ids')).flatMap((id) => byId.get(id) ?? []);
  const choose = (id: number, isChosen: boolean) => {
    const ids = chosen.map((cohort) => cohort.id).filter((other) => other !== id);
    setHidden({ ids: (isChosen ? [...ids, id] : ids).join(), pair: '' });
  };
  if (all.length < 2) {
    return (
      <Empty title="Nothing to compare yet">
        <p>A comparison needs two cohorts.</p>
        <a class="button primary" href={href('/cohorts/new')}>
          New cohort
        </a>
      </Empty>
    );
  }
  return (
    <div class="overlap">
      <section aria-label="Common members">{chosen.length < 2 ? <Hint all={all} /> : <Matrix chosen={chosen} />}</section>
      <Choice all={all} chosen={chosen} choose={choose} />
    </div>
  );
}

/** What to do while there is no matrix. */
function Hint({ all }: { all: Cohort[] }) {
  const largest = all.filter(({ count }) => (count ?? 0) > 0).sort((a, b) => (b.count ?? 0) - (a.count ?? 0)).slice(0, 5);
  return (
    <Empty title="Choose two cohorts">
      <p>The numbers appear as soon as two cohorts are chosen.</p>
      {largest.length > 1 && (
        <button type="button" onClick={() => setHidden({ ids: largest.map(({ id }) => id).join() })}>
          The {largest.length} largest
        </button>
      )}
    </Empty>
  );
}

function Choice({ all, chosen, choose }: { all: Cohort[]; chosen: Cohort[]; choose: (id: number, isChosen: boolean) => void }) {
  const [search, setSearch] = useState('');
  const ids = new Set(chosen.map(({ id }) => id));
  const text = search.trim().toLowerCase();
  const shown = all.filter((cohort) => ids.has(cohort.id) || nameOf(cohort).toLowerCase().includes(text));
  return (
    <section class="panel choice" aria-label="Choice of cohorts">
      <h2>Cohorts</h2>
      <SearchField value={search} label="Search cohorts" change={setSearch} />
      <ul>
        {shown.map((cohort) => (
          <li key={cohort.id}>
            <label>
              <input
                type="checkbox"
                checked={ids.has(cohort.id)}
                disabled={!ids.has(cohort.id) && ids.size >= MOST}
                onChange={(event) => choose(cohort.id, event.currentTarget.checked)}
              />
              <span>{nameOf(cohort)}</span>
              <span class="faint">{number(cohort.count)}</span>
            </label>
          </li>
        ))}
      </ul>
      {ids.size > 0 && (
        <button type="button" class="link" onClick={() => setHidden({ ids: '', pair: '' })}>
          Choose none
        </button>
      )}
    </section>
  );
}

function Matrix({ chosen }: { chosen: Cohort[] }) {
  const ids = chosen.map(({ id }) => id);
  const loaded = useLoad((signal) => requests.overlap(ids, signal), [ids.join()]);
  useChanged(async (changed) => {
    if (!changed || ids.some((id) => changed.has(id))) loaded.reload();
  });
  return (
    <Show loaded={loaded} what="the common members">
      {/* Until the numbers of a new choice are there, the former ones do not fit it. */}
      {(overlap) => (overlap.counts.length === ids.length ? <Numbers chosen={chosen} overlap={overlap} /> : null)}
    </Show>
  );
}

function Numbers({ chosen, overlap }: { chosen: Cohort[]; overlap: CohortOverlap }) {
  const [left, right] = numbersOf(place.value.hidden.get('pair'));
  const at = (id: number | undefined) => chosen.findIndex((cohort) => cohort.id === id);
  const pair = [at(left), at(right)];
  return (
    <>
      <div class="matrix-box" role="region" aria-label="Common members of each pair" tabIndex={0}>
        <table class="matrix">
          <thead>
            <tr>
              <th scope="col">Of these …</th>
              {chosen.map((cohort) => (
                <th key={cohort.id} scope="col" class="number">
                  <span class="clip" title={nameOf(cohort)}>
                    … in {nameOf(cohort)}
                  </span>
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {chosen.map((row, y) => (
              <tr key={row.id}>
                <th scope="row">
                  <a href={href(`/cohorts/${row.id}`)}>{nameOf(row)}</a>
                </th>
                {chosen.map((column, x) => (
                  <Cell key={column.id} row={row} column={column} common={overlap.intersections[y]?.[x] ?? 0} whole={overlap.counts[y] ?? 0} isPair={pair[0] === y && pair[1] === x} />
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <p class="faint">The share is that of the row. Press a number for the difference between two cohorts, or one of the diagonal for what distinguishes a cohort from everyone else.</p>
      <Difference chosen={chosen} overlap={overlap} pair={pair} />
    </>
  );
}

function Cell({ row, column, common, whole, isPair }: { row: Cohort; column: Cohort; common: number; whole: number; isPair: boolean }) {
  if (row.id === column.id) {
    return (
      <td>
        <button type="button" aria-pressed={isPair} aria-label={`${persons(whole)} of ${nameOf(row)}`} onClick={() => setHidden({ pair: isPair ? '' : `${row.id},${row.id}` })}>
          <strong>{number(whole)}</strong>
        </button>
      </td>
    );
  }
  const share = whole === 0 ? 0 : common / whole;
  return (
    <td>
      <button
        type="button"
        class={share >= MUCH ? 'much' : share >= SOME ? 'some' : ''}
        aria-pressed={isPair}
        aria-label={`${persons(common)} of ${nameOf(row)} in ${nameOf(column)}`}
        onClick={() => setHidden({ pair: isPair ? '' : `${row.id},${column.id}` })}
      >
        {number(common)}
        <small>{common === 0 ? '–' : percent(common, whole)}</small>
      </button>
    </td>
  );
}

/** The difference between two cohorts, or what distinguishes one of them from everyone else. */
function Difference({ chosen, overlap, pair }: { chosen: Cohort[]; overlap: CohortOverlap; pair: number[] }) {
  const [y = -1, x = -1] = pair;
  const [first, second] = [chosen[y], chosen[x]];
  if (!first || !second) return null;
  if (first === second) return <Compare cohort={first} other={undefined} />;
  return (
    <>
      <Parts chosen={chosen} overlap={overlap} pair={pair} />
      <Compare cohort={first} other={second} />
      <p>
        <button type="button" onClick={() => setHidden({ pair: `${second.id},${first.id}` })}>
          Compare the other way round
        </button>
      </p>
    </>
  );
}

/** The persons of one cohort that are not in the other one, both ways, each as the start of a new cohort. */
function Parts({ chosen, overlap, pair: [y = -1, x = -1] }: { chosen: Cohort[]; overlap: CohortOverlap; pair: number[] }) {
  const [first, second] = [chosen[y], chosen[x]];
  if (!first || !second) return null;
  const common = overlap.intersections[y]?.[x] ?? 0;
  const [ofFirst, ofSecond] = [(overlap.counts[y] ?? 0) - common, (overlap.counts[x] ?? 0) - common];
  return (
    <section class="panel" aria-label="Difference">
      <h2>
        {nameOf(first)} and {nameOf(second)}
      </h2>
      <ul class="links difference">
        <Part words={`Only in ${nameOf(first)}`} count={ofFirst} draft={() => draft(`${nameOf(first)}, not ${nameOf(second)}`, first, second, true)} />
        <Part words="In both" count={common} draft={() => draft(`${nameOf(first)} and ${nameOf(second)}`, first, second, false)} />
        <Part words={`Only in ${nameOf(second)}`} count={ofSecond} draft={() => draft(`${nameOf(second)}, not ${nameOf(first)}`, second, first, true)} />
      </ul>
    </section>
  );
}

function Part({ words, count, draft: begin }: { words: string; count: number; draft: () => void }) {
  return (
    <li>
      <span>{words}</span>
      <span>
        <strong>{plural(count, 'person')}</strong>{' '}
        <button type="button" aria-label={`New cohort: ${words}`} onClick={begin}>
          New cohort
        </button>
      </span>
    </li>
  );
}

/** Puts the part into the builder, unsaved. */
function draft(name: string, of: Cohort, other: Cohort, isWithout: boolean): void {
  const leaf = (id: number) => ({ type: 'cohort', key: 'id', value: id });
  const values = [leaf(of.id), isWithout ? { ...leaf(other.id), negation: true } : leaf(other.id)];
  saveDraft(session.peek()?.project.id ?? 0, 'new', { name: name.slice(0, 400), description: '', filters: { properties: { type: 'AND', values } } });
  go('/cohorts/new');
}
