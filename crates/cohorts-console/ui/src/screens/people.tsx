// Persons: find them by an id, an e-mail address, a name or a property; and one person with properties, latest events and
// cohorts. What is searched, and who is shown, stays behind `#`.

import { useState } from 'preact/hooks';
import { people } from '../api/resources';
import type { PersonQuery } from '../api/resources';
import { ApiError } from '../api/error';
import type { Person } from '../api/types';
import { CopyButton, SearchField, Select } from '../parts/field';
import { Time, number, persons } from '../parts/format';
import { Icon } from '../parts/icons';
import { useLoad, useSettled } from '../parts/load';
import { PropertyTable } from '../parts/properties';
import { Empty, Failure, Loading, Show, useTitle } from '../parts/state';
import { Suggest } from '../parts/suggest';
import { catalogue, cohortName } from '../state/catalogue';
import { suggestPersonProperties, suggestPersonValues } from '../state/suggestions';
import { href, place, setHidden } from '../state/router';
import { LatestEvents } from './events';
import { PersonTable } from './members';
import { Why } from './why';

const SETTLE = 200;
const WAYS = [
  { value: '', words: 'E-mail, name or id' },
  { value: 'distinct_id', words: 'Exact distinct id' },
  { value: 'email', words: 'Exact e-mail address' },
  { value: 'property', words: 'Property' },
];

export function PeopleScreen() {
  const id = place.value.hidden.get('id');
  return id ? <PersonScreen key={id} id={id} /> : <Search />;
}

function queryOf(way: string, text: string, property: string): PersonQuery {
  if (text === '') return {};
  if (way === 'distinct_id') return { distinct_id: text };
  if (way === 'email') return { email: text };
  if (way === 'property') return property === '' ? {} : { properties: JSON.stringify([{ key: property, value: text }]) };
  return { search: text };
}

function Search() {
  useTitle('People');
  const { hidden } = place.value;
  const [way, text, property] = [hidden.get('by') ?? '', hidden.get('search') ?? '', hidden.get('property') ?? ''];
  const settled = useSettled(text.trim(), SETTLE);
  const query = queryOf(way, settled, property);
  const version = JSON.stringify(query);
  const [failure, setFailure] = useState<unknown>();
  const total = useLoad(async (signal) => (await people.page({ ...query, limit: 1, offset: 0, include_total: true }, signal)).count ?? 0, [version]);
  return (
    <div class="screen">
      <header class="title">
        <h1>People</h1>
      </header>
      <div class="toolbar">
        <Select label="Search by" value={way} choices={WAYS} change={(value) => setHidden({ by: value })} />
        {way === 'property' && (
          <>
            <Suggest label="Property" placeholder="property" value={property} suggest={suggestPersonProperties} change={(value) => setHidden({ property: value })} />
            <span>is</span>
            <Suggest label="Value" placeholder="value" value={text} suggest={suggestPersonValues(property)} change={(value) => setHidden({ search: value })} />
          </>
        )}
        {way !== 'property' && <SearchField value={text} label="Search persons" change={(value) => setHidden({ search: value })} />}
      </div>
      {failure !== undefined && <Failure error={failure} />}
      {total.data === undefined && (total.error === undefined ? <Loading what="persons" /> : <Failure error={total.error} retry={total.reload} />)}
      {total.data === 0 && settled === '' && (
        <Empty title="No persons yet">
          <p>Persons appear when an SDK or an import sends events.</p>
          <a class="button" href="/docs/">
            How to send events
          </a>
        </Empty>
      )}
      {total.data === 0 && settled !== '' && (
        <Empty title="No person found">
          <p>{way === 'distinct_id' || way === 'email' ? 'Only the whole text is found. Letters of a distinct id must have the same case.' : 'Try a part of the e-mail address, or search by a property.'}</p>
          <button type="button" onClick={() => setHidden({ by: '', search: '', property: '' })}>
            Show all persons
          </button>
        </Empty>
      )}
      {total.data !== undefined && total.data > 0 && (
        <>
          <p class="faint" role="status">
            {persons(total.data)}, the newest first
          </p>
          <PersonTable
            label="Persons"
            total={total.data}
            version={version}
            load={async (offset, limit, signal) => (await people.page({ ...query, limit, offset }, signal)).results}
            failed={setFailure}
          />
        </>
      )}
    </div>
  );
}

function PersonScreen({ id }: { id: string }) {
  const loaded = useLoad((signal) => people.get(id, signal), [id]);
  useTitle('Person');
  const from = Number(place.value.hidden.get('from')) || undefined;
  if (loaded.error instanceof ApiError && (loaded.error.status === 404 || loaded.error.status === 400)) {
    return (
      <Empty isPage title="There is no such person">
        <p>The person was deleted, or merged into another one.</p>
        <a class="button" href={href('/people')}>
          All persons
        </a>
      </Empty>
    );
  }
  return (
    <div class="screen">
      <nav class="crumbs" aria-label="Path">
        <a href={href(from === undefined ? '/people' : `/cohorts/${from}`)}>
          <Icon name="back" />
          {from === undefined ? 'People' : (cohortName(from) ?? 'Cohort')}
        </a>
      </nav>
      <Show loaded={loaded} what="the person">
        {(person) => <PersonDetails person={person} isFromCohort={from !== undefined} />}
      </Show>
    </div>
  );
}

/** On narrow screens the cohorts come first for a reader who comes from a cohort and wants the reason. */
function PersonDetails({ person, isFromCohort }: { person: Person; isFromCohort: boolean }) {
  const properties = Object.entries(person.properties).sort(([a], [b]) => a.localeCompare(b));
  const [filter, setFilter] = useState('');
  const shown = properties.filter(([key, value]) => `${key} ${JSON.stringify(value)}`.toLowerCase().includes(filter.toLowerCase()));
  return (
    <>
      <header class="title">
        <div class="heading">
          <h1>{person.name}</h1>
          <p class="lead">
            First seen <Time value={person.created_at} />
            {person.is_identified && ' · identified'}
          </p>
        </div>
        <div class="actions">
          <CopyButton text={() => person.id} words="Copy id" />
        </div>
      </header>
      <div class={isFromCohort ? 'columns wide-first reason-first' : 'columns wide-first'}>
        <div>
          <section>
            <div class="toolbar">
              <h2>Properties</h2>
              <span class="grow" />
              {properties.length > 8 && <SearchField value={filter} label="Filter properties" change={setFilter} />}
            </div>
            {properties.length === 0 ? (
              <Empty title="No properties">
                <p>No event has set a property of this person.</p>
              </Empty>
            ) : (
              <PropertyTable rows={shown} />
            )}
            {properties.length > 0 && shown.length === 0 && <p class="faint">No property contains “{filter}”.</p>}
          </section>
          <LatestEvents person={person.id} />
        </div>
        <div>
          <Memberships id={person.id} />
          <section>
            <h2>Distinct ids</h2>
            <ul class="ids">
              {person.distinct_ids.map((distinct) => (
                <li key={distinct}>
                  <code>{distinct}</code>
                </li>
              ))}
            </ul>
            {person.distinct_ids.length === 10 && <p class="faint">The first 10 are shown.</p>}
          </section>
        </div>
      </div>
    </>
  );
}

function Memberships({ id }: { id: string }) {
  const loaded = useLoad((signal) => people.cohorts(id, signal), [id]);
  const why = Number(place.value.hidden.get('why')) || 0;
  return (
    <section>
      <h2>Cohorts</h2>
      <Show loaded={loaded} what="the cohorts">
        {({ results }) =>
          results.length === 0 ? (
            <p class="faint">The person is in no cohort.</p>
          ) : (
            <>
              <ul class="memberships">
                {results.map(({ id: cohort, name, count }) => (
                  <li key={cohort}>
                    <a href={href(`/cohorts/${cohort}`)}>{name || 'Unnamed'}</a>
                    <span class="count faint">{number(count)}</span>
                    <button type="button" class="link" aria-expanded={why === cohort} onClick={() => setHidden({ why: why === cohort ? '' : String(cohort) })}>
                      Why?
                    </button>
                    {why === cohort && <Why id={cohort} person={id} />}
                  </li>
                ))}
              </ul>
              <p class="faint">As of the last calculation of each cohort.</p>
            </>
          )
        }
      </Show>
      {loaded.data && <OtherCohorts id={id} members={loaded.data.results.map((cohort) => cohort.id)} why={why} />}
    </section>
  );
}

/** Why the person is not in another cohort. */
function OtherCohorts({ id, members, why }: { id: string; members: number[]; why: number }) {
  const others = catalogue.value.cohorts.filter((cohort) => !members.includes(cohort.id));
  const chosen = others.some((cohort) => cohort.id === why) ? why : 0;
  if (others.length === 0) return null;
  return (
    <>
      <label class="other-cohort">
        Why not in
        <select value={chosen || ''} onChange={(event) => setHidden({ why: event.currentTarget.value })}>
          <option value="">choose a cohort</option>
          {others.map((cohort) => (
            <option key={cohort.id} value={cohort.id}>
              {cohort.name || 'Unnamed'}
            </option>
          ))}
        </select>
      </label>
      {chosen > 0 && <Why key={chosen} id={chosen} person={id} />}
    </>
  );
}
