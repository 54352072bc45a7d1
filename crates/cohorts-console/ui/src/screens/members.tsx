// Persons in a table that scrolls through millions: the members of a cohort. Searches stay behind `#`.

import { signal } from '@preact/signals';
import { useMemo, useState } from 'preact/hooks';
import { api } from '../state/session';
import { cohorts, people } from '../api/resources';
import type { Cohort, Person } from '../api/types';
import { show } from '../model/sentence';
import type { Json } from '../model/filter';
import { notify } from '../parts/dialog';
import { SearchField } from '../parts/field';
import { Time, plural } from '../parts/format';
import { Icon } from '../parts/icons';
import { Menu } from '../parts/menu';
import { useLoad, useSettled } from '../parts/load';
import { Empty, Failure, Loading } from '../parts/state';
import { BigTable } from '../parts/table';
import type { Column } from '../parts/table';
import { catalogue } from '../state/catalogue';
import { href, place, setHidden } from '../state/router';
import { AddPersons } from './add-persons';
import { Export } from './export';

const SETTLE = 200;
const MOST_COLUMNS = 6;
const COLUMNS_STORE = 'cohorts.columns';

export function MembersTab({ cohort, moves, reload }: { cohort: Cohort; moves: number; reload: () => void }) {
  const typed = place.value.hidden.get('search') ?? '';
  const search = useSettled(typed.trim(), SETTLE);
  const [round, setRound] = useState(0);
  const [isAdding, setAdding] = useState(false);
  const version = `${cohort.id} ${cohort.version} ${search} ${round}`;
  const revision = `${cohort.count} ${moves}`;
  const total = useLoad(
    async (signal) => {
      const page = await people.members(cohort.id, { search, limit: 1, offset: 0, include_total: true }, signal);
      return page.count ?? 0;
    },
    [version, revision],
  );
  const changed = () => {
    setRound((value) => value + 1);
    reload();
  };
  const remove = async (person: Person) => {
    try {
      await cohorts.removePerson(cohort.id, person.id);
      notify(`${person.name} is removed.`, { words: 'Undo', run: () => void cohorts.addPersons(cohort.id, [person.id]).then(changed) });
      changed();
    } catch (error) {
      setFailure(error);
    }
  };
  const [failure, setFailure] = useState<unknown>();
  return (
    <section class="members">
      <div class="toolbar">
        <SearchField value={typed} label="Search members" placeholder="Search e-mail, name or id" change={(text) => setHidden({ search: text })} />
        <ColumnChoice />
        <span class="grow" />
        {cohort.is_static && !cohort.deleted && (
          <button type="button" onClick={() => setAdding(true)}>
            <Icon name="add" />
            Add persons
          </button>
        )}
        <Export path={api(`cohorts/${cohort.id}/persons`)} query={{ search }} name={cohort.name || `cohort-${cohort.id}`} total={total.data ?? 0} />
      </div>
      {failure !== undefined && <Failure error={failure} />}
      {total.data === undefined && (total.error === undefined ? <Loading what="the members" /> : <Failure error={total.error} retry={total.reload} />)}
      {total.data === 0 && <NoMembers cohort={cohort} search={search} add={() => setAdding(true)} />}
      {total.data !== undefined && total.data > 0 && (
        <>
          <p class="faint" role="status">
            {plural(total.data, 'member')}
            {search && ` with “${search}”`}
          </p>
          <PersonTable
            cohort={cohort.id}
            label={`Members of ${cohort.name || 'the cohort'}`}
            total={total.data}
            version={version}
            revision={revision}
            load={async (offset, limit, signal) => (await people.members(cohort.id, { search, limit, offset }, signal)).results}
            failed={setFailure}
            remove={cohort.is_static && !cohort.deleted ? (person) => void remove(person) : undefined}
          />
        </>
      )}
      {isAdding && <AddPersons cohort={cohort} close={() => setAdding(false)} added={changed} />}
    </section>
  );
}

function NoMembers({ cohort, search, add }: { cohort: Cohort; search: string; add: () => void }) {
  if (search) {
    return (
      <Empty title="No member matches">
        <p>No e-mail address, name or id of a member contains “{search}”.</p>
        <button type="button" onClick={() => setHidden({ search: '' })}>
          Show all members
        </button>
      </Empty>
    );
  }
  if (cohort.is_static) {
    return (
      <Empty title="The list is empty">
        <p>Add persons by hand, or upload a file.</p>
        <button type="button" class="primary" onClick={add}>
          Add persons
        </button>
      </Empty>
    );
  }
  if (cohort.is_calculating || cohort.last_calculation === null) {
    return <Empty title="The first calculation is under way">{cohort.errors_calculating > 0 ? null : <p>The members appear here as soon as it ends.</p>}</Empty>;
  }
  return (
    <Empty title="No person matches the criteria">
      <p>The cohort is up to date. Look at the criteria: each has a count there.</p>
      <a class="button" href={href(`/cohorts/${cohort.id}/criteria`)}>
        Criteria
      </a>
    </Empty>
  );
}

/** The property columns that the reader chose in this tab. */
const choice = signal<string[] | undefined>(storedColumns());

function storedColumns(): string[] | undefined {
  try {
    const names: unknown = JSON.parse(sessionStorage.getItem(COLUMNS_STORE) ?? 'null');
    return Array.isArray(names) ? names.filter((name): name is string => typeof name === 'string') : undefined;
  } catch {
    return undefined;
  }
}

/** The shown property columns; without a choice, the most common properties. */
function shownColumns(): string[] {
  if (choice.value) return choice.value;
  const known = [...catalogue.value.personProperties].filter(([name]) => name !== 'email' && name !== 'name' && !name.startsWith('$'));
  known.sort(([, a], [, b]) => b - a);
  return known.slice(0, 3).map(([name]) => name);
}

function ColumnChoice() {
  const chosen = shownColumns();
  const names = [...catalogue.value.personProperties.keys()].sort((a, b) => a.localeCompare(b));
  const toggle = (name: string) => {
    const next = chosen.includes(name) ? chosen.filter((other) => other !== name) : [...chosen, name].slice(-MOST_COLUMNS);
    sessionStorage.setItem(COLUMNS_STORE, JSON.stringify(next));
    choice.value = next;
  };
  if (names.length === 0) return null;
  return (
    <Menu
      isLeft
      isChoice
      face={
        <>
          Columns
          <Icon name="down" />
        </>
      }
    >
      {names.map((name) => (
        <label key={name}>
          <input type="checkbox" checked={chosen.includes(name)} onChange={() => toggle(name)} />
          {name}
        </label>
      ))}
    </Menu>
  );
}

interface TableProperties {
  /** The cohort of the members; absent for all persons. */
  cohort?: number;
  label: string;
  total: number;
  version: string;
  revision?: string;
  load: (offset: number, limit: number, signal: AbortSignal) => Promise<Person[]>;
  failed: (error: unknown) => void;
  remove?: ((person: Person) => void) | undefined;
}

export function PersonTable({ cohort, label, total, version, revision, load, failed, remove }: TableProperties) {
  const chosen = shownColumns();
  const columns = useMemo(() => {
    const list: Column<Person>[] = [
      { key: 'name', title: 'Person', width: 300, grow: 4, cell: (person) => <PersonLink person={person} cohort={cohort} /> },
      ...chosen.map((name) => ({
        key: `p ${name}`,
        title: name,
        width: 96,
        grow: 1,
        cell: (person: Person) => <Value value={person.properties[name] as Json | undefined} />,
      })),
      { key: 'created', title: 'First seen', width: 116, grow: 0, cell: (person) => <Time value={person.created_at} isDay /> },
    ];
    if (remove) {
      list.push({
        key: 'remove',
        title: '',
        width: 56,
        grow: 0,
        cell: (person) => (
          <button type="button" class="quiet square" aria-label={`Remove ${person.name}`} onClick={() => remove(person)}>
            <Icon name="close" />
          </button>
        ),
      });
    }
    return list;
  }, [chosen.join('\n'), remove !== undefined, cohort]);
  return <BigTable label={label} columns={columns} total={total} version={version} revision={revision} load={load} rowKey={(person) => person.id} failed={failed} />;
}

/** A link to a person. From a cohort, it opens why the person is a member, and leads back there. */
export function PersonLink({ person, cohort }: { person: Person; cohort?: number | undefined }) {
  const from: Record<string, string> = cohort === undefined ? {} : { from: String(cohort), why: String(cohort) };
  const name = person.name || person.distinct_ids[0] || person.id;
  return (
    <a href={href('/people', { id: person.id, ...from })} title={name}>
      {name}
    </a>
  );
}

export function Value({ value }: { value: Json | undefined }) {
  if (value === undefined || value === null) return <span class="faint">–</span>;
  const text = value === '' ? '(empty)' : show(value);
  return <span title={text}>{text}</span>;
}
