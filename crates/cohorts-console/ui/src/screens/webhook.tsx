// One webhook: pause and continue, a test, a replay, a new secret, and its latest deliveries.

import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import { webhooks } from '../api/resources';
import { ApiError } from '../api/error';
import type { Webhook, WebhookDelivery } from '../api/types';
import { Dialog, notify } from '../parts/dialog';
import { Field } from '../parts/field';
import { Time, plural } from '../parts/format';
import { Icon } from '../parts/icons';
import { useLoad, usePolling } from '../parts/load';
import type { Loaded } from '../parts/load';
import { Empty, Failure, Show, useTitle } from '../parts/state';
import { go, href } from '../state/router';
import { EditWebhook, Secret, WebhookState, cohortWords } from './webhooks';

const REFRESH = 5_000;

export function WebhookScreen({ id }: { id: number }) {
  const loaded = useLoad((signal) => webhooks.get(id, signal), [id]);
  const deliveries = useLoad((signal) => webhooks.deliveries(id, signal), [id]);
  useTitle('Webhook');
  const isMissing = loaded.error instanceof ApiError && loaded.error.status === 404;
  usePolling(
    () => {
      loaded.reload();
      deliveries.reload();
    },
    REFRESH,
    loaded.data !== undefined && deliveries.error === undefined && !isMissing,
  );
  if (isMissing) {
    return (
      <Empty isPage title="There is no such webhook">
        <p>It was deleted, or belongs to another project.</p>
        <a class="button" href={href('/webhooks')}>
          All webhooks
        </a>
      </Empty>
    );
  }
  return (
    <div class="screen">
      {loaded.data === undefined && <h1 class="visually-hidden">Webhook</h1>}
      <Show loaded={loaded} what="the webhook">
        {(webhook) => (
          <>
            <Head webhook={webhook} set={loaded.set} reload={deliveries.reload} />
            <Deliveries webhook={webhook} loaded={deliveries} set={loaded.set} />
          </>
        )}
      </Show>
    </div>
  );
}

type Open = 'edit' | 'replay' | 'rotate' | 'delete' | undefined;

function Head({ webhook, set, reload }: { webhook: Webhook; set: (webhook: Webhook) => void; reload: () => void }) {
  const [open, setOpen] = useState<Open>();
  const [secret, setSecret] = useState<Webhook>();
  const [isBusy, setBusy] = useState(false);
  const [failure, setFailure] = useState<unknown>();
  const close = () => setOpen(undefined);
  const act = async (action: () => Promise<void>) => {
    setBusy(true);
    try {
      await action();
      setFailure(undefined);
      close();
    } catch (error) {
      setFailure(error);
      close();
    }
    setBusy(false);
  };
  const test = () =>
    act(async () => {
      const { status, response_status: code, error } = await webhooks.test(webhook.id);
      notify(status === 'delivered' ? `The address accepted the test with the status ${code}.` : `The test failed. ${error ?? ''}`);
      reload();
    });
  return (
    <>
      <nav class="crumbs" aria-label="Path">
        <a href={href('/webhooks')}>
          <Icon name="back" />
          Webhooks
        </a>
      </nav>
      <header class="title">
        <div class="heading">
          <h1>
            {webhook.url} <WebhookState webhook={webhook} />
          </h1>
          {webhook.description && <p class="lead">{webhook.description}</p>}
        </div>
        <div class="actions">
          <button type="button" class="primary" disabled={isBusy} onClick={() => void act(async () => set(await webhooks.update(webhook.id, { enabled: !webhook.enabled || webhook.paused_reason !== null })))}>
            {webhook.enabled && webhook.paused_reason === null ? 'Pause' : 'Continue'}
          </button>
          <button type="button" disabled={isBusy} onClick={() => void test()}>
            Send a test
          </button>
          <button type="button" onClick={() => setOpen('replay')}>
            Replay …
          </button>
          <button type="button" onClick={() => setOpen('edit')}>
            Change
          </button>
          <button type="button" onClick={() => setOpen('rotate')}>
            New secret …
          </button>
          <button type="button" class="danger" onClick={() => setOpen('delete')}>
            Delete …
          </button>
        </div>
      </header>
      {failure !== undefined && <Failure error={failure} />}
      <Facts webhook={webhook} />
      {open === 'edit' && (
        <EditWebhook
          webhook={webhook}
          close={close}
          saved={(changed) => {
            set(changed);
            close();
          }}
        />
      )}
      {open === 'replay' && <Replay webhook={webhook} close={close} saved={set} />}
      {open === 'rotate' && (
        <Question title="A new secret?" words="New secret" close={close} isBusy={isBusy} act={() => void act(async () => setSecret(await webhooks.rotate(webhook.id)))}>
          <p>Messages are signed with both secrets for 24 hours. Give the new one to your program in this time.</p>
        </Question>
      )}
      {open === 'delete' && (
        <Question
          title="Delete the webhook?"
          words="Delete"
          isDanger
          close={close}
          isBusy={isBusy}
          act={() =>
            void act(async () => {
              await webhooks.remove(webhook.id);
              notify('The webhook is deleted.');
              go('/webhooks');
            })
          }
        >
          <p>{webhook.url} receives no further changes. The list of deliveries is deleted too. This cannot be undone.</p>
        </Question>
      )}
      {secret && <Secret webhook={secret} close={() => setSecret(undefined)} />}
    </>
  );
}

function Facts({ webhook }: { webhook: Webhook }) {
  const { cohort_ids: ids, created_at: created, created_by: user, paused_reason: reason, paused_detail: detail, failing_since: failing } = webhook;
  return (
    <>
      <dl class="facts">
        <div>
          <dt>Changes of</dt>
          <dd>{cohortWords(ids)}</dd>
        </div>
        <div>
          <dt>Created</dt>
          <dd>
            <Time value={created} isDay />
            {user && <span class="faint"> by {user.first_name || user.email}</span>}
          </dd>
        </div>
        {webhook.next_attempt_at && (
          <div>
            <dt>Next attempt</dt>
            <dd>
              <Time value={webhook.next_attempt_at} isRelative />
            </dd>
          </div>
        )}
      </dl>
      {(reason !== null || failing !== null) && (
        <div class="failure" role="status">
          <Icon name="warning" />
          <div>
            <strong>{reason === null ? 'The address does not accept messages' : 'The service has stopped this webhook'}</strong>
            <p>
              {reason === null ? 'No attempt has succeeded since ' : (detail ?? reason)}
              {reason === null && <Time value={failing} />}
              {reason === null && '. The service tries again for three days; no change is lost in this time.'}
            </p>
          </div>
        </div>
      )}
    </>
  );
}

interface QuestionProperties {
  title: string;
  words: string;
  isDanger?: boolean;
  isBusy: boolean;
  close: () => void;
  act: () => void;
  children: ComponentChildren;
}

function Question({ title, words, isDanger = false, isBusy, close, act, children }: QuestionProperties) {
  return (
    <Dialog title={title} close={close}>
      {children}
      <footer>
        <button type="button" onClick={close}>
          Cancel
        </button>
        <button type="button" class={isDanger ? 'danger' : 'primary'} disabled={isBusy} onClick={act}>
          {words}
        </button>
      </footer>
    </Dialog>
  );
}

/** The time of an input of the browser, in the zone of the reader. */
function localTime(time: Date): string {
  return new Date(time.getTime() - time.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

const HOUR = 3_600_000;

function Replay({ webhook, close, saved }: { webhook: Webhook; close: () => void; saved: (webhook: Webhook) => void }) {
  const [from, setFrom] = useState(() => localTime(new Date(Date.now() - HOUR)));
  const [failure, setFailure] = useState<unknown>();
  const [isBusy, setBusy] = useState(false);
  const replay = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    try {
      saved(await webhooks.replay(webhook.id, new Date(from).toISOString()));
      notify('The changes are sent again.');
      close();
    } catch (error) {
      setFailure(error);
      setBusy(false);
    }
  };
  return (
    <Dialog title="Send changes again" close={close}>
      <form onSubmit={replay}>
        <p>All changes since this time are sent again, with new message ids.</p>
        <Field label="Changes since" hint="In your time zone.">
          {(id) => <input id={id} type="datetime-local" required value={from} onInput={(event) => setFrom(event.currentTarget.value)} />}
        </Field>
        {failure !== undefined && <Failure error={failure} />}
        <footer>
          <button type="button" onClick={close}>
            Cancel
          </button>
          <button type="submit" class="primary" disabled={isBusy || from === ''}>
            Replay
          </button>
        </footer>
      </form>
    </Dialog>
  );
}

interface DeliveriesProperties {
  webhook: Webhook;
  loaded: Loaded<WebhookDelivery[]>;
  set: (webhook: Webhook) => void;
}

function Deliveries({ webhook, loaded, set }: DeliveriesProperties) {
  const [failure, setFailure] = useState<unknown>();
  const again = async (position: string) => {
    try {
      set(await webhooks.replay(webhook.id, position));
      notify('The changes since this delivery are sent again.');
      setFailure(undefined);
      loaded.reload();
    } catch (error) {
      setFailure(error);
    }
  };
  return (
    <section>
      <h2>Deliveries</h2>
      {failure !== undefined && <Failure error={failure} />}
      <Show loaded={loaded} what="the deliveries">
        {(rows) =>
          rows.length === 0 ? (
            <Empty title="No deliveries yet">
              <p>The next change of the members is sent at once. “Send a test” shows whether the address accepts messages.</p>
            </Empty>
          ) : (
            <ol class="timeline">
              {rows.map((delivery) => (
                <Delivery key={delivery.id} delivery={delivery} again={again} />
              ))}
            </ol>
          )
        }
      </Show>
    </section>
  );
}

function Delivery({ delivery, again }: { delivery: WebhookDelivery; again: (position: string) => Promise<void> }) {
  const { status, type, changes, attempt, response_status: code, response_body: body, error, duration_ms: duration, from_cursor: position } = delivery;
  return (
    <li>
      <Time value={delivery.started_at} />
      <div class="entry">
        <p>
          <span class={`tag ${status === 'delivered' ? 'entered' : 'bad'}`}>{status}</span> {type === 'webhook.test' ? 'a test' : plural(changes, 'change')}
          {attempt > 1 && `, attempt ${attempt}`}
          {code !== null && `, status ${code}`} in {duration} ms
        </p>
        {error && <p class="problem">{error}</p>}
        {body && (
          <details>
            <summary>Response</summary>
            <pre class="code inline" tabIndex={0}>
              {body}
            </pre>
          </details>
        )}
        {position !== null && (
          <div>
            <button type="button" class="link" onClick={() => void again(position)}>
              Send again from here
            </button>
          </div>
        )}
      </div>
    </li>
  );
}
