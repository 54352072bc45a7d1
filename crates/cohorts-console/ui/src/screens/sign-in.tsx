// The start: a personal key, and a project if the key has several.

import { useState } from 'preact/hooks';
import { ApiError, ConnectionError, explain } from '../api/error';
import type { Project } from '../api/types';
import { Field } from '../parts/field';
import { Icon } from '../parts/icons';
import { useTitle } from '../parts/state';
import { place } from '../state/router';
import { choose, signIn, signOut } from '../state/session';

export function SignIn({ message }: { message: string | undefined }) {
  useTitle('Sign in');
  const [key, setKey] = useState('');
  const [error, setError] = useState<string>();
  const [isBusy, setBusy] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    const text = key.trim();
    if (!text.startsWith('phx_')) {
      setError(text.startsWith('phc_') ? 'This is the token of a project, for capture. Paste a personal key: it begins with phx_.' : 'A personal key begins with phx_.');
      return;
    }
    setBusy(true);
    try {
      await signIn(text, place.value.project);
    } catch (failure) {
      setError(reasonOf(failure));
      setBusy(false);
    }
  };
  return (
    <main class="start">
      <form class="card" onSubmit={submit} noValidate>
        <h1 class="brand">
          <Icon name="cohort" />
          Cohorts
        </h1>
        <p>Define a set of persons once, see how many they are, and use it everywhere.</p>
        {message && (
          <p class="note" role="status">
            {message}
          </p>
        )}
        <Field label="Personal key" error={error} hint="It stays in this tab, and is forgotten when the tab closes.">
          {(id) => (
            <input
              id={id}
              type="password"
              name="key"
              placeholder="phx_…"
              autocomplete="off"
              spellcheck={false}
              aria-invalid={error ? 'true' : undefined}
              value={key}
              onInput={(event) => {
                setKey(event.currentTarget.value);
                setError(undefined);
              }}
            />
          )}
        </Field>
        <button type="submit" class="primary" disabled={isBusy || key.trim() === ''}>
          {isBusy ? 'Signing in …' : 'Sign in'}
        </button>
        <details>
          <summary>Where do I get a key?</summary>
          <p>
            The operator of this service creates it with <code>cohorts key create --all-scopes</code>. <code>cohorts console</code> and{' '}
            <code>cohorts demo</code> print an address that signs in without a key.
          </p>
        </details>
      </form>
      <p class="faint">
        <a href="/docs/">API and documentation</a>
      </p>
    </main>
  );
}

function reasonOf(failure: unknown): string {
  if (failure instanceof ConnectionError) return 'There is no connection to the service. Try again when it is back.';
  if (failure instanceof ApiError && failure.status === 401) return 'The service does not know this key. Copy all of it, or ask for another one.';
  const { title, detail } = explain(failure);
  return `${title}. ${detail}`;
}

export function ChooseProject({ projects }: { projects: Project[] }) {
  useTitle('Choose a project');
  return (
    <main class="start">
      <div class="card">
        <h1>Choose a project</h1>
        {projects.length === 0 && <p>The key has access to no project. Ask the operator for a key of a project.</p>}
        <ul class="choices">
          {projects.map((project) => (
            <li key={project.id}>
              <button type="button" onClick={() => choose(project)}>
                <strong>{project.name}</strong>
                <small>
                  {project.id} · {project.timezone}
                </small>
              </button>
            </li>
          ))}
        </ul>
        <button type="button" class="link" onClick={() => signOut()}>
          Use another key
        </button>
      </div>
    </main>
  );
}
