// The frame of the page: navigation, the sign-in that it needs, messages, and the screen of the address.

import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { connection } from './api/client';
import { Notices } from './parts/dialog';
import { Time } from './parts/format';
import { Icon } from './parts/icons';
import type { IconName } from './parts/icons';
import { Empty, Loading, useTitle } from './parts/state';
import { ChooseProject, SignIn } from './screens/sign-in';
import { CohortsScreen } from './screens/cohorts';
import { CohortScreen } from './screens/cohort';
import { BuilderScreen } from './screens/builder';
import { QueryScreen } from './screens/query';
import { ListScreen } from './screens/list';
import { PeopleScreen } from './screens/people';
import { ChangesScreen } from './screens/changes';
import { OverlapScreen } from './screens/overlap';
import { WebhookScreen } from './screens/webhook';
import { WebhooksScreen } from './screens/webhooks';
import { catalogue, loadCatalogue } from './state/catalogue';
import { follow } from './state/live';
import { go, href, path, setProject } from './state/router';
import { choose, session, sessionState, signOut } from './state/session';

export function App() {
  const state = sessionState.value;
  return (
    <>
      {state.kind === 'starting' && <Loading what="the session" />}
      {state.kind === 'out' && <SignIn message={state.message} />}
      {state.kind === 'choosing' && <ChooseProject projects={state.projects} />}
      {state.kind === 'in' && <Frame key={state.session.project.id} />}
      <Notices />
    </>
  );
}

const SECTIONS: { path: string; words: string; icon: IconName; paths: string[] }[] = [
  { path: '/cohorts', words: 'Cohorts', icon: 'cohort', paths: ['cohorts', 'lists', 'overlap', 'queries'] },
  { path: '/people', words: 'People', icon: 'person', paths: ['people'] },
  { path: '/changes', words: 'Changes', icon: 'changes', paths: ['changes'] },
  { path: '/webhooks', words: 'Webhooks', icon: 'webhook', paths: ['webhooks'] },
];

function Frame() {
  const current = session.value;
  const main = useRef<HTMLElement>(null);
  const address = path.value;
  useEffect(() => {
    if (!current) return undefined;
    setProject(current.projects.length > 1 ? current.project.id : undefined);
    const controller = new AbortController();
    if (catalogue.peek().project !== current.project.id) void loadCatalogue(controller.signal);
    const unfollow = follow(current.project.id);
    return () => {
      controller.abort();
      unfollow();
    };
  }, [current?.project.id]);
  useEffect(() => {
    if (address === '/' || address === '/sign-in') go('/cohorts', undefined, { replace: true });
  }, [address]);
  return (
    <div class="frame">
      <a
        class="skip"
        href="#main"
        onClick={(event) => {
          event.preventDefault();
          main.current?.focus();
        }}
      >
        Skip to the content
      </a>
      <header class="side">
        <a class="brand" href={href('/cohorts')}>
          <Icon name="cohort" />
          <span>Cohorts</span>
        </a>
        <nav aria-label="Sections">
          {SECTIONS.map(({ path: section, words, icon, paths }) => (
            <a key={section} href={href(section)} aria-current={paths.includes(address.split('/')[1] ?? '') ? 'page' : undefined}>
              <Icon name={icon} />
              {words}
            </a>
          ))}
        </nav>
        <Account />
      </header>
      <main id="main" ref={main} tabIndex={-1}>
        <ConnectionBanner />
        <Screen address={address} />
      </main>
    </div>
  );
}

/** The screen of an address. Its key makes a new screen for another object. */
function Screen({ address }: { address: string }): ComponentChildren {
  const parts = address.split('/').slice(1);
  const [section, name, tab] = parts;
  const id = Number(name);
  if (section === 'cohorts' && !name) return <CohortsScreen />;
  if (section === 'cohorts' && name === 'new') return <BuilderScreen key="new" id={undefined} />;
  if (section === 'cohorts' && Number.isSafeInteger(id) && tab === 'edit') return <BuilderScreen key={id} id={id} />;
  if (section === 'cohorts' && Number.isSafeInteger(id) && parts.length <= 3) return <CohortScreen key={id} id={id} tab={tab ?? 'members'} />;
  if (section === 'people' && !name) return <PeopleScreen />;
  if (section === 'overlap' && !name) return <OverlapScreen />;
  if (section === 'changes' && !name) return <ChangesScreen />;
  if (section === 'webhooks' && !name) return <WebhooksScreen />;
  if (section === 'webhooks' && Number.isSafeInteger(id) && parts.length === 2) return <WebhookScreen key={id} id={id} />;
  if (section === 'lists' && name === 'new') return <ListScreen />;
  if (section === 'queries' && name === 'new') return <QueryScreen key="new" id={undefined} />;
  if (section === 'queries' && Number.isSafeInteger(id) && parts.length === 2) return <QueryScreen key={id} id={id} />;
  if (section === '' || section === 'sign-in') return null;
  return <Unknown />;
}

function Unknown() {
  useTitle('Not found');
  return (
    <Empty isPage title="There is no such page">
      <p>The address may be incomplete.</p>
      <a class="button" href={href('/cohorts')}>
        All cohorts
      </a>
    </Empty>
  );
}

/** The person and the project of the session. */
function Account() {
  const current = session.value;
  if (!current) return null;
  const { projects, project, user, details } = current;
  return (
    <div class="account">
      {projects.length > 1 ? (
        <select
          aria-label="Project"
          value={project.id}
          onChange={(event) => {
            const next = projects.find(({ id }) => String(id) === event.currentTarget.value);
            if (next) {
              go('/cohorts');
              choose(next);
            }
          }}
        >
          {projects.map(({ id, name }) => (
            <option key={id} value={id}>
              {name}
            </option>
          ))}
        </select>
      ) : (
        <span class="project" title={project.name}>
          {project.name}
        </span>
      )}
      <span class="user" title={user?.email}>
        {user?.email ?? 'A key without user:read'}
      </span>
      {details && (
        <span class="user">
          {details.label || 'session'}, ends <Time value={details.expires_at} isRelative />
        </span>
      )}
      <div class="account-links">
        <a href="/docs/">API</a>
        <button type="button" class="link" onClick={() => signOut()}>
          Sign out
        </button>
      </div>
    </div>
  );
}

/** A lost connection, with the time of the next attempt. */
function ConnectionBanner() {
  const current = connection.value;
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    if (current.state === 'ok') return undefined;
    setNow(Date.now());
    const timer = setInterval(() => setNow(Date.now()), 500);
    return () => clearInterval(timer);
  }, [current]);
  if (current.state === 'ok') return null;
  const seconds = Math.max(Math.ceil((current.until - now) / 1_000), 0);
  const reason = current.state === 'lost' ? 'No connection to the service.' : 'The service is busy.';
  return (
    <div class="banner" role="status">
      <Icon name="warning" />
      {reason} {seconds > 0 ? `Next attempt in ${seconds} s.` : 'Trying again …'} What you entered is kept.
    </div>
  );
}
