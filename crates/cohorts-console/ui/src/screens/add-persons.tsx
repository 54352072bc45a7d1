// Adds persons to a list by hand: search, choose, add.

import { useState } from 'preact/hooks';
import { cohorts, people } from '../api/resources';
import type { Cohort, Person } from '../api/types';
import { Dialog, notify } from '../parts/dialog';
import { SearchField } from '../parts/field';
import { plural } from '../parts/format';
import { useLoad, useSettled } from '../parts/load';
import { Failure, Show } from '../parts/state';

const FOUND = 20;

export function AddPersons({ cohort, close, added }: { cohort: Cohort; close: () => void; added: () => void }) {
  const [text, setText] = useState('');
  const search = useSettled(text.trim(), 200);
  const [chosen, setChosen] = useState<Map<string, Person>>(new Map());
  const [failure, setFailure] = useState<unknown>();
  const [isBusy, setBusy] = useState(false);
  const found = useLoad((signal) => people.page({ search, limit: FOUND, offset: 0 }, signal), [search]);
  const toggle = (person: Person) => {
    const next = new Map(chosen);
    if (!next.delete(person.id)) next.set(person.id, person);
    setChosen(next);
  };
  const add = async () => {
    setBusy(true);
    try {
      await cohorts.addPersons(cohort.id, [...chosen.keys()]);
      notify(`${plural(chosen.size, 'person')} added.`);
      added();
      close();
    } catch (error) {
      setFailure(error);
      setBusy(false);
    }
  };
  return (
    <Dialog title="Add persons" close={close}>
      <SearchField value={text} label="Search persons" placeholder="E-mail, name or distinct id" change={setText} />
      <Show loaded={found} what="persons">
        {({ results }) =>
          results.length === 0 ? (
            <p>No person of the project has “{search}” in an e-mail address, a name or a distinct id.</p>
          ) : (
            <ul class="choices checks scroll">
              {results.map((person) => (
                <li key={person.id}>
                  <label>
                    <input type="checkbox" checked={chosen.has(person.id)} onChange={() => toggle(person)} />
                    <span>{person.name}</span>
                    <small>{person.distinct_ids[0]}</small>
                  </label>
                </li>
              ))}
            </ul>
          )
        }
      </Show>
      {failure !== undefined && <Failure error={failure} />}
      <footer>
        <button type="button" onClick={close}>
          Cancel
        </button>
        <button type="button" class="primary" disabled={chosen.size === 0 || isBusy} onClick={() => void add()}>
          {chosen.size === 0 ? 'Add' : `Add ${plural(chosen.size, 'person')}`}
        </button>
      </footer>
    </Dialog>
  );
}
