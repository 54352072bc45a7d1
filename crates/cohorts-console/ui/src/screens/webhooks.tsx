// The webhooks of the project: what each one sends, and whether it works; a new one, with its secret.

import { useState } from 'preact/hooks';
import { webhooks } from '../api/resources';
import type { Webhook } from '../api/types';
import { Dialog } from '../parts/dialog';
import { CopyButton, Field } from '../parts/field';
import { Time, plural } from '../parts/format';
import { Icon } from '../parts/icons';
import { useLoad } from '../parts/load';
import { Empty, Failure, Show, useTitle } from '../parts/state';
import { catalogue, cohortName } from '../state/catalogue';
import { go, href } from '../state/router';

export function WebhooksScreen() {
  useTitle('Webhooks');
  const loaded = useLoad((signal) => webhooks.all(signal), []);
  const [isCreating, setCreating] = useState(false);
  const [created, setCreated] = useState<Webhook>();
  return (
    <div class="screen">
      <header class="title">
        <div class="heading">
          <h1>Webhooks</h1>
          <p class="lead">The service sends each change of the members to an address of yours, in order, until the address accepts it.</p>
        </div>
        <div class="actions">
          <button type="button" class="primary" onClick={() => setCreating(true)}>
            <Icon name="add" />
            New webhook
          </button>
        </div>
      </header>
      <Show loaded={loaded} what="the webhooks">
        {(all) => (all.length === 0 ? <NoWebhooks /> : <List all={all} />)}
      </Show>
      {isCreating && (
        <EditWebhook
          close={() => setCreating(false)}
          saved={(webhook) => {
            setCreating(false);
            setCreated(webhook);
            loaded.reload();
          }}
        />
      )}
      {created && <Secret webhook={created} close={() => go(`/webhooks/${created.id}`)} />}
    </div>
  );
}

function NoWebhooks() {
  return (
    <Empty title="No webhooks yet">
      <p>
        A webhook tells a program of yours who entered and left, so that it need not ask. Add one with the address of the program.
      </p>
    </Empty>
  );
}

function List({ all }: { all: Webhook[] }) {
  return (
    <table class="webhooks">
      <thead>
        <tr>
          <th>Address</th>
          <th class="wide">Cohorts</th>
          <th>State</th>
          <th class="wide">Created</th>
        </tr>
      </thead>
      <tbody>
        {all.map((webhook) => (
          <tr key={webhook.id}>
            <td class="name">
              <a href={href(`/webhooks/${webhook.id}`)}>{webhook.url}</a>
              {webhook.description && <div class="faint">{webhook.description}</div>}
            </td>
            <td class="wide">{cohortWords(webhook.cohort_ids)}</td>
            <td>
              <WebhookState webhook={webhook} />
            </td>
            <td class="wide">
              <Time value={webhook.created_at} isDay />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

export function cohortWords(ids: number[] | null): string {
  if (ids === null) return 'All cohorts';
  return ids.length > 3 ? plural(ids.length, 'cohort') : ids.map((id) => cohortName(id) ?? `Cohort ${id}`).join(', ');
}

export function WebhookState({ webhook }: { webhook: Webhook }) {
  if (webhook.paused_reason !== null) return <span class="tag bad">stopped</span>;
  if (!webhook.enabled) return <span class="tag">paused</span>;
  if (webhook.failing_since !== null) return <span class="tag bad">failing</span>;
  return <span class="tag entered">on</span>;
}

/** A new webhook, or the fields of an existing one. */
export function EditWebhook({ webhook, close, saved }: { webhook?: Webhook; close: () => void; saved: (webhook: Webhook) => void }) {
  const [url, setUrl] = useState(webhook?.url ?? '');
  const [description, setDescription] = useState(webhook?.description ?? '');
  const [chosen, setChosen] = useState<Set<number> | undefined>(webhook?.cohort_ids ? new Set(webhook.cohort_ids) : undefined);
  const [failure, setFailure] = useState<unknown>();
  const [isBusy, setBusy] = useState(false);
  const save = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    const body = { url: url.trim(), description, cohort_ids: chosen ? [...chosen] : null };
    try {
      saved(await (webhook ? webhooks.update(webhook.id, body) : webhooks.create(body)));
    } catch (error) {
      setFailure(error);
      setBusy(false);
    }
  };
  return (
    <Dialog title={webhook ? 'Change the webhook' : 'New webhook'} close={close}>
      <form onSubmit={save}>
        <Field label="Address" hint="It begins with https://, unless the operator has allowed another address.">
          {(id) => (
            <input id={id} type="url" required maxLength={2_000} placeholder="https://" autocomplete="off" value={url} onInput={(event) => setUrl(event.currentTarget.value)} />
          )}
        </Field>
        <Field label="Description">
          {(id) => <input id={id} value={description} maxLength={1_000} onInput={(event) => setDescription(event.currentTarget.value)} />}
        </Field>
        <CohortChoices chosen={chosen} change={setChosen} />
        {failure !== undefined && <Failure error={failure} />}
        <footer>
          <button type="button" onClick={close}>
            Cancel
          </button>
          <button type="submit" class="primary" disabled={isBusy || url.trim() === '' || chosen?.size === 0}>
            {webhook ? 'Save' : 'Create'}
          </button>
        </footer>
      </form>
    </Dialog>
  );
}

function CohortChoices({ chosen, change }: { chosen: Set<number> | undefined; change: (chosen: Set<number> | undefined) => void }) {
  const toggle = (id: number) => {
    const next = new Set(chosen);
    if (!next.delete(id)) next.add(id);
    change(next);
  };
  return (
    <fieldset class="checks">
      <legend>Changes of</legend>
      <label>
        <input type="radio" name="cohorts" checked={chosen === undefined} onChange={() => change(undefined)} />
        all cohorts, also later ones
      </label>
      <label>
        <input type="radio" name="cohorts" checked={chosen !== undefined} onChange={() => change(new Set())} />
        some cohorts
      </label>
      {chosen && (
        <ul class="choices checks scroll">
          {catalogue.value.cohorts.map(({ id, name }) => (
            <li key={id}>
              <label>
                <input type="checkbox" checked={chosen.has(id)} onChange={() => toggle(id)} />
                <span>{name || 'Unnamed'}</span>
              </label>
            </li>
          ))}
        </ul>
      )}
    </fieldset>
  );
}

/** The secret, once. */
export function Secret({ webhook, close }: { webhook: Webhook; close: () => void }) {
  const secret = webhook.secret ?? '';
  return (
    <Dialog title="The secret of the webhook" close={close}>
      <p>It proves to your program that a message comes from this service. Copy it now: it is not shown again.</p>
      <pre class="code" tabIndex={0} data-testid="secret">
        {secret}
      </pre>
      <footer>
        <CopyButton text={() => secret} words="Copy the secret" />
        <button type="button" class="primary" onClick={close}>
          Done
        </button>
      </footer>
    </Dialog>
  );
}
