// The states of a screen without data: loading, empty, error, forbidden; and the title of a screen.

import type { ComponentChildren } from 'preact';
import { useEffect } from 'preact/hooks';
import { ApiError, ConnectionError, explain } from '../api/error';
import { session } from '../state/session';
import type { Loaded } from './load';
import { Icon } from './icons';

export function Loading({ what }: { what: string }) {
  return (
    <div class="state" role="status">
      <span class="spinner" aria-hidden="true" />
      <span>Loading {what} …</span>
    </div>
  );
}

/** Why there is nothing, and what to do next. `isPage` if it is the whole screen. */
export function Empty({ title, isPage = false, children }: { title: string; isPage?: boolean; children?: ComponentChildren }) {
  return (
    <div class="state empty">
      {isPage ? <h1>{title}</h1> : <h2>{title}</h2>}
      {children}
    </div>
  );
}

/** An error with what to do. */
export function Failure({ error, retry }: { error: unknown; retry?: (() => void) | undefined }) {
  const { title, detail } = explain(error);
  const isForbidden = error instanceof ApiError && error.status === 403;
  return (
    <div class="failure" role="alert">
      <Icon name="warning" />
      <div>
        <strong>{title}</strong>
        <p>{detail}</p>
        {retry && !isForbidden && (
          <button type="button" onClick={retry}>
            Try again
          </button>
        )}
      </div>
    </div>
  );
}

/** Shows data, or why there is none. An error after data keeps the data. */
export function Show<T>({ loaded, what, children }: { loaded: Loaded<T>; what: string; children: (data: T) => ComponentChildren }) {
  const { data, error, reload } = loaded;
  if (data === undefined) return error === undefined ? <Loading what={what} /> : <Failure error={error} retry={reload} />;
  return (
    <>
      {error !== undefined && !(error instanceof ConnectionError) && <Failure error={error} retry={reload} />}
      {children(data)}
    </>
  );
}

/** Sets the title of the window. */
export function useTitle(title: string): void {
  const project = session.value?.project.name;
  useEffect(() => {
    document.title = [title, project, 'Cohorts'].filter(Boolean).join(' · ');
  }, [title, project]);
}
