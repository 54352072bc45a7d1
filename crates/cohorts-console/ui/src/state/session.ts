// The session of the tab: the key, the person and the project. It ends with the tab.

import { computed, signal } from '@preact/signals';
import { call, setCredentials } from '../api/client';
import type { PaginatedProjectList, Project, User } from '../api/types';

const KEY = 'cohorts.key';
const PROJECT = 'cohorts.project';

export interface Session {
  key: string;
  user: Pick<User, 'email' | 'first_name'> | undefined;
  projects: Project[];
  project: Project;
}

export type SessionState =
  | { kind: 'out'; message?: string }
  | { kind: 'starting' }
  | { kind: 'choosing'; key: string; user: Session['user']; projects: Project[] }
  | { kind: 'in'; session: Session };

export const sessionState = signal<SessionState>({ kind: 'starting' });
export const session = computed(() => (sessionState.value.kind === 'in' ? sessionState.value.session : undefined));

/** The path of the current project's resources. */
export function api(path: string): string {
  return `/api/projects/${session.peek()?.project.id ?? '@current'}/${path}`;
}

/** Continues the session of the tab. `project` is the id in the address, which takes precedence. */
export async function resume(project: number | undefined): Promise<void> {
  const key = sessionStorage.getItem(KEY);
  if (key === null) {
    sessionState.value = { kind: 'out' };
    return;
  }
  sessionState.value = { kind: 'starting' };
  try {
    await signIn(key, project ?? (Number(sessionStorage.getItem(PROJECT)) || undefined));
  } catch {
    sessionState.value = { kind: 'out', message: 'The session has ended: the key is no longer valid.' };
  }
}

/** Tries the key. With several projects, one must be chosen. */
export async function signIn(key: string, projectId?: number): Promise<void> {
  const page = await call<PaginatedProjectList>('/api/projects/', { key, query: { limit: 1000 } });
  // The name of the person is not essential, and needs a scope of its own.
  const user = await call<User>('/api/users/@me/', { key }).catch(() => undefined);
  const projects = page.results;
  sessionStorage.setItem(KEY, key);
  const [only] = projects;
  const project = projects.find(({ id }) => id === projectId) ?? (projects.length === 1 ? only : undefined);
  if (project) {
    enter({ key, user, projects, project });
  } else {
    sessionState.value = { kind: 'choosing', key, user, projects };
  }
}

export function choose(project: Project): void {
  const state = sessionState.peek();
  if (state.kind === 'choosing') enter({ ...state, project });
  if (state.kind === 'in') enter({ ...state.session, project });
}

function enter({ key, user, projects, project }: Session): void {
  sessionStorage.setItem(PROJECT, String(project.id));
  const refused = () => signOut('The service no longer accepts the key. Sign in again; your drafts are kept.');
  setCredentials({ key, refused });
  sessionState.value = { kind: 'in', session: { key, user, projects, project } };
}

/** Ends the session. Drafts stay in the tab. */
export function signOut(message?: string): void {
  sessionStorage.removeItem(KEY);
  sessionStorage.removeItem(PROJECT);
  setCredentials(undefined);
  sessionState.value = message === undefined ? { kind: 'out' } : { kind: 'out', message };
}
