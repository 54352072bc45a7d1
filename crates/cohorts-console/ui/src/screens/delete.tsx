// The deletion of a cohort: first shows what uses it, and offers to undo it afterwards.

import { useState } from 'preact/hooks';
import { cohorts } from '../api/resources';
import { explain } from '../api/error';
import type { Cohort } from '../api/types';
import { Dialog, notify } from '../parts/dialog';
import { useLoad } from '../parts/load';
import { Failure, Show } from '../parts/state';
import { href } from '../state/router';

interface Properties {
  cohort: Cohort;
  close: () => void;
  done: () => void;
  restored: () => void;
}

export function DeleteDialog({ cohort, close, done, restored }: Properties) {
  const name = cohort.name || 'Unnamed';
  const uses = useLoad((signal) => cohorts.uses(cohort.id, signal), [cohort.id]);
  const [failure, setFailure] = useState<unknown>();
  const [isBusy, setBusy] = useState(false);
  const remove = async () => {
    setBusy(true);
    try {
      await cohorts.update(cohort.id, { deleted: true });
      notify(`“${name}” is deleted.`, { words: 'Undo', run: () => void restore(cohort.id, name, restored) });
      done();
    } catch (error) {
      setFailure(error);
      setBusy(false);
    }
  };
  return (
    <Dialog title={`Delete “${name}”?`} close={close}>
      <Show loaded={uses} what="the uses">
        {({ cohorts: used }) =>
          used.total === 0 ? (
            <p>No other cohort uses it. It can be restored until the operator purges it.</p>
          ) : (
            <>
              <p>{used.total === 1 ? 'A cohort uses it' : `${used.total} cohorts use it`} as a criterion. It can be deleted after these criteria are removed:</p>
              <ul>
                {used.results.map(({ id, name: other }) => (
                  <li key={id}>
                    <a href={href(`/cohorts/${id}/edit`)}>{other}</a>
                  </li>
                ))}
              </ul>
            </>
          )
        }
      </Show>
      {failure !== undefined && <Failure error={failure} />}
      <footer>
        <button type="button" onClick={close}>
          Keep it
        </button>
        <button type="button" class="danger" disabled={isBusy || uses.data?.cohorts.total !== 0} onClick={() => void remove()}>
          Delete
        </button>
      </footer>
    </Dialog>
  );
}

export async function restore(id: number, name: string, done: () => void): Promise<void> {
  try {
    await cohorts.update(id, { deleted: false });
    notify(`“${name}” is back.`);
    done();
  } catch (error) {
    const { title, detail } = explain(error);
    notify(`${title}. ${detail}`);
  }
}
