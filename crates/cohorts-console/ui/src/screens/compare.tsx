// What is more or less common among the members of a cohort than among other persons: values of properties, and events.

import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import { cohorts } from '../api/resources';
import type { Cohort, ComparedPersons, ComparedProperty } from '../api/types';
import { number, percent, persons, plural } from '../parts/format';
import { useLoad } from '../parts/load';
import { Show } from '../parts/state';

/** Rows of the first view. */
const [PROPERTIES, VALUES, EVENTS] = [8, 5, 10];

const nameOf = (cohort: Cohort) => cohort.name || `Cohort ${cohort.id}`;

/** Without `other`, the members are compared with all other persons. */
export function Compare({ cohort, other }: { cohort: Cohort; other: Cohort | undefined }) {
  const loaded = useLoad(
    async (signal) => ({ ids: `${cohort.id},${other?.id}`, result: await cohorts.compare(cohort.id, other?.id, signal) }),
    [cohort.id, other?.id],
  );
  const outside = other ? `members of ${nameOf(other)} who are not in it` : 'all other persons';
  return (
    <section class="panel compare" aria-label="What differs">
      <h2>
        What distinguishes {nameOf(cohort)} from {other ? nameOf(other) : 'everyone else'}
      </h2>
      <Show loaded={loaded} what="the comparison">
        {({ ids, result }) => (ids === `${cohort.id},${other?.id}` ? <Result key={ids} result={result} outside={outside} /> : null)}
      </Show>
    </section>
  );
}

function Result({ result, outside }: { result: ComparedPersons; outside: string }) {
  const { properties, events, event_names: eventNames } = result;
  if (result.inside === 0) return <p>The cohort has no members to compare.</p>;
  if (result.outside === 0) return <p>There is no person to compare the members with: there are no {outside}.</p>;
  const size = { inside: result.inside, outside: result.outside };
  return (
    <>
      <p class="faint">
        {plural(result.inside, 'member')} inside. {number(result.outside)} outside: {outside}. The largest differences come first.
      </p>
      {properties.length === 0 && events.length === 0 && <p>No property and no event is more or less common among the members.</p>}
      {properties.length > 0 && <Properties list={properties} size={size} />}
      {events.length > 0 && <Events list={events} size={size} />}
      {events.length === 0 && eventNames > 0 && properties.length > 0 && <p class="faint">No event is more or less common among the members.</p>}
    </>
  );
}

interface Size {
  inside: number;
  outside: number;
}

interface Entry {
  inside: number;
  outside: number;
  lift: number | null;
}

function Table({ caption, first, children }: { caption: string; first: string; children: ComponentChildren }) {
  return (
    <div class="matrix-box" role="region" aria-label={caption} tabIndex={0}>
      <table>
        <thead>
          <tr>
            <th scope="col">{first}</th>
            <th scope="col" class="number">
              Inside
            </th>
            <th scope="col" class="number">
              Outside
            </th>
            <th scope="col" class="number">
              Lift
            </th>
          </tr>
        </thead>
        {children}
      </table>
    </div>
  );
}

function Properties({ list, size }: { list: ComparedProperty[]; size: Size }) {
  const [isWhole, setWhole] = useState(false);
  const shown = isWhole ? list : list.slice(0, PROPERTIES);
  return (
    <>
      <h3>Properties</h3>
      <Table caption="Differences of properties" first="Property and value">
        {shown.map((property) => (
          <PropertyRows key={property.key} property={property} size={size} />
        ))}
      </Table>
      <More shown={shown.length} all={list.length} what="properties" show={() => setWhole(true)} />
    </>
  );
}

function PropertyRows({ property, size }: { property: ComparedProperty; size: Size }) {
  const { key, values, values_count: count } = property;
  const [isWhole, setWhole] = useState(false);
  const shown = isWhole ? values : values.slice(0, VALUES);
  const rest = values.length - shown.length;
  return (
    <tbody>
      <tr class="property">
        <th scope="rowgroup">
          {key} <small>{count === null ? 'any value; more than 10,000 values, which are not listed' : `any of ${plural(count, 'value')}`}</small>
        </th>
        <Numbers entry={property} size={size} />
      </tr>
      {shown.map((entry) => (
        <tr key={entry.value}>
          <th scope="row" class="value">
            {entry.value}
          </th>
          <Numbers entry={entry} size={size} />
        </tr>
      ))}
      {rest > 0 && (
        <tr>
          <td class="value" colSpan={4}>
            <button type="button" class="link" aria-label={`${rest} more values of ${key}`} onClick={() => setWhole(true)}>
              {rest} more
            </button>
          </td>
        </tr>
      )}
    </tbody>
  );
}

function Events({ list, size }: { list: ComparedPersons['events']; size: Size }) {
  const [isWhole, setWhole] = useState(false);
  const shown = isWhole ? list : list.slice(0, EVENTS);
  return (
    <>
      <h3>Events</h3>
      <Table caption="Differences of events" first="Did">
        <tbody>
          {shown.map((entry) => (
            <tr key={entry.event}>
              <th scope="row">{entry.event}</th>
              <Numbers entry={entry} size={size} />
            </tr>
          ))}
        </tbody>
      </Table>
      <More shown={shown.length} all={list.length} what="events" show={() => setWhole(true)} />
    </>
  );
}

function More({ shown, all, what, show }: { shown: number; all: number; what: string; show: () => void }) {
  if (shown === all) return null;
  return (
    <button type="button" class="link" onClick={show}>
      All {all} {what}
    </button>
  );
}

function Numbers({ entry: { inside, outside, lift }, size }: { entry: Entry; size: Size }) {
  return (
    <>
      <Share part={inside} whole={size.inside} />
      <Share part={outside} whole={size.outside} />
      <td class="number">{liftWords(lift)}</td>
    </>
  );
}

function Share({ part, whole }: { part: number; whole: number }) {
  return (
    <td class="number" title={persons(part)}>
      <span class="share">
        <span style={{ inlineSize: `${(part / whole) * 100}%` }} />
      </span>
      <b>{part === 0 ? '0 %' : percent(part, whole)}</b>
    </td>
  );
}

/** How many times as common the entry is inside as outside. */
function liftWords(lift: number | null): string {
  if (lift === null) return 'only inside';
  if (lift === 0) return 'only outside';
  return `×\u00a0${lift < 0.01 ? '< 0.01' : lift < 10 ? lift.toFixed(lift < 1 ? 2 : 1) : number(Math.round(lift))}`;
}
