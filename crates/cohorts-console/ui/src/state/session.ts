// The session of the tab: the key, the person and the project. It ends with the tab.

import { computed, signal } from '@preact/signals';
import { call, setCredentials } from '../api/client';
import { ApiError, explain } from '../api/error';
import type { ConsoleSession, PaginatedProjectList, Project, User } from '../api/types';

const KEY = 'cohorts.key';
const PROJECT = 'cohorts.project';
/** The label and the end of the key, if it came from a code. */
const DETAILS = 'cohorts.session';

export interface Session {
  key: string;
  user: Pick<User, 'email' | 'first_name'> | undefined;
  projects: Project[];
  project: Project;
  details: KeyDetails | undefined;
}

export type KeyDetails = Pick<ConsoleSession, 'label' | 'expires_at'>;

export type SessionState =
  | { kind: 'out'; message?: string }
  | { kind: 'starting' }
  | ({ kind: 'choosing' } & Omit<Session, 'project'>)
  | { kind: 'in'; session: Session };

export const sessionState = signal<SessionState>({ kind: 'starting' });
export const session = computed(() => (sessionState.value.kind === 'in' ? sessionState.value.session : undefined));

/** The path of the current project's resources. */
export function api(path: string): string {
  return `/api/projects/${session.peek()?.project.id ?? '@current'}/${path}`;
}

/**
 * Continues the session of the tab, or begins one with the code. `project` is the id in the address, which takes
 * precedence. Returns whether the code was used: never while the tab is signed in.
 */
export async function resume(project: number | undefined, code?: string): Promise<boolean> {
  const { kind } = sessionState.peek();
  if (kind === 'in' || kind === 'choosing') return false;
  const key = sessionStorage.getItem(KEY);
  if (key !== null) {
    sessionState.value = { kind: 'starting' };
    try {
      await signIn(key, project ?? (Number(sessionStorage.getItem(PROJECT)) || undefined), keyDetails());
      return false;
    } catch {
      sessionState.value = { kind: 'out', message: 'The session has ended: the key is no longer valid.' };
    }
  }
  if (code === undefined) {
    if (key === null) sessionState.value = { kind: 'out' };
    return false;
  }
  await exchange(code, project);
  return true;
}

/** Begins a session with the key of a code. */
async function exchange(code: string, project: number | undefined): Promise<void> {
  sessionState.value = { kind: 'starting' };
  try {
    const { key, label, expires_at } = await call<ConsoleSession>('/api/console/session/', { method: 'POST', body: { code }, isAnonymous: true });
    await signIn(key, project, { label, expires_at });
  } catch (error) {
    sessionState.value = { kind: 'out', message: reasonOf(error) };
  }
}

function reasonOf(error: unknown): string {
  if (error instanceof ApiError && error.status === 401) {
    return 'The address was used before, or is older than ten minutes. The command “cohorts console” prints a new one.';
  }
  const { title, detail } = explain(error);
  return `${title}. ${detail}`;
}

function keyDetails(): KeyDetails | undefined {
  const text = sessionStorage.getItem(DETAILS);
  return text === null ? undefined : (JSON.parse(text) as KeyDetails);
}

/** Tries the key. With several projects, one must be chosen. */
export async function signIn(key: string, projectId?: number, details?: KeyDetails): Promise<void> {
  const page = await call<PaginatedProjectList>('/api/projects/', { key, query: { limit: 1000 } });
  // The name of the person is not essential, and needs a scope of its own.
  const user = await call<User>('/api/users/@me/', { key }).catch(() => undefined);
  const projects = page.results;
  sessionStorage.setItem(KEY, key);
  if (details) sessionStorage.setItem(DETAILS, JSON.stringify(details));
  else sessionStorage.removeItem(DETAILS);
  const [only] = projects;
  const project = projects.find(({ id }) => id === projectId) ?? (projects.length === 1 ? only : undefined);
  if (project) {
    enter({ key, user, projects, project, details });
  } else {
    sessionState.value = { kind: 'choosing', key, user, projects, details };
  }
}

export function choose(project: Project): void {
  const state = sessionState.peek();
  if (state.kind === 'choosing') enter({ ...state, project });
  if (state.kind === 'in') enter({ ...state.session, project });
}

function enter({ key, user, projects, project, details }: Session): void {
  sessionStorage.setItem(PROJECT, String(project.id));
  const refused = () => signOut('The service no longer accepts the key. Sign in again; your drafts are kept.');
  setCredentials({ key, refused });
  sessionState.value = { kind: 'in', session: { key, user, projects, project, details } };
}

/** Ends the session. Drafts stay in the tab. */
export function signOut(message?: string): void {
  sessionStorage.removeItem(KEY);
  sessionStorage.removeItem(PROJECT);
  sessionStorage.removeItem(DETAILS);
  setCredentials(undefined);
  sessionState.value = message === undefined ? { kind: 'out' } : { kind: 'out', message };
}
