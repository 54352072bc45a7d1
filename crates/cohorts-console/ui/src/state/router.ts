// The address of the page. The path names the screen; ids of persons and searches are behind `#`, which browsers do not send.

import { computed, signal } from '@preact/signals';

export interface Place {
  path: string;
  /** The parameters behind `#`. */
  hidden: URLSearchParams;
  project: number | undefined;
}

const read = (): Place => {
  const project = Number(new URLSearchParams(location.search).get('project'));
  return {
    path: location.pathname.replace(/\/+$/, '') || '/',
    hidden: new URLSearchParams(location.hash.slice(1)),
    project: Number.isSafeInteger(project) && project > 0 ? project : undefined,
  };
};

export const place = signal(read());
export const path = computed(() => place.value.path);

addEventListener('popstate', () => {
  place.value = read();
});
addEventListener('hashchange', () => {
  place.value = read();
});

/** Asks before the screen is left, if it returns a question. */
export const guard = signal<(() => string | undefined) | undefined>(undefined);

/** The address of a screen; it keeps the project. */
export function href(path: string, hidden?: Record<string, string>): string {
  const project = place.value.project;
  const query = project === undefined ? '' : `?project=${project}`;
  const text = hidden ? new URLSearchParams(hidden).toString() : '';
  return `${path}${query}${text === '' ? '' : `#${text}`}`;
}

export function go(path: string, hidden?: Record<string, string>, options: { replace?: boolean } = {}): void {
  open(href(path, hidden), options);
}

export function open(address: string, { replace = false } = {}): void {
  if (replace) history.replaceState(null, '', address);
  else history.pushState(null, '', address);
  const former = place.peek().path;
  place.value = read();
  if (!replace && place.peek().path !== former) {
    scrollTo(0, 0);
  }
}

/** Puts the project into the address, if the key has several. */
export function setProject(id: number | undefined): void {
  const query = id === undefined ? '' : `?project=${id}`;
  if (location.search === query) return;
  history.replaceState(null, '', `${location.pathname}${query}${location.hash}`);
  place.value = read();
}

/** Sets parameters behind `#` without a new entry in the history. Empty ones are removed. */
export function setHidden(changes: Record<string, string>): void {
  const hidden = new URLSearchParams(place.peek().hidden);
  for (const [name, value] of Object.entries(changes)) {
    if (value === '') hidden.delete(name);
    else hidden.set(name, value);
  }
  const text = hidden.toString();
  history.replaceState(null, '', `${location.pathname}${location.search}${text === '' ? '' : `#${text}`}`);
  place.value = read();
}

/** Follows links of the page without loading it again. */
export function followLinks(event: MouseEvent): void {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = (event.target as Element | null)?.closest?.('a');
  if (!link || link.target !== '' || link.hasAttribute('download') || link.origin !== location.origin) return;
  if (link.pathname.startsWith('/docs') || link.pathname.startsWith('/api')) return;
  event.preventDefault();
  open(link.pathname + link.search + link.hash);
}
