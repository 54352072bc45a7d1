// The name and the description of a cohort.

import { useState } from 'preact/hooks';
import { cohorts } from '../api/resources';
import type { Cohort } from '../api/types';
import { Dialog } from '../parts/dialog';
import { Field } from '../parts/field';
import { Failure } from '../parts/state';

export const MOST_NAME = 400;
export const MOST_DESCRIPTION = 1_000;
export const NAME_MISSING = 'Enter a name.';

export function EditDetails({ cohort, close, saved }: { cohort: Cohort; close: () => void; saved: (cohort: Cohort) => void }) {
  const [name, setName] = useState(cohort.name ?? '');
  const [description, setDescription] = useState(cohort.description);
  const [failure, setFailure] = useState<unknown>();
  const [isBusy, setBusy] = useState(false);
  const save = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    try {
      saved(await cohorts.update(cohort.id, { name, description }));
      close();
    } catch (error) {
      setFailure(error);
      setBusy(false);
    }
  };
  return (
    <Dialog title="Name and description" close={close}>
      <form onSubmit={save}>
        <Field label="Name">
          {(id) => <input id={id} value={name} maxLength={MOST_NAME} onInput={(event) => setName(event.currentTarget.value)} />}
        </Field>
        <Field label="Description">
          {(id) => (
            <textarea id={id} rows={3} value={description} maxLength={MOST_DESCRIPTION} onInput={(event) => setDescription(event.currentTarget.value)} />
          )}
        </Field>
        {failure !== undefined && <Failure error={failure} />}
        <footer>
          <button type="button" onClick={close}>
            Cancel
          </button>
          <button type="submit" class="primary" disabled={isBusy}>
            Save
          </button>
        </footer>
      </form>
    </Dialog>
  );
}
