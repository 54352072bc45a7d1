// Drafts: what the user typed and has not saved. They survive a reload and an error, and end with the tab.

const name = (project: number, id: string) => `cohorts.draft.${project}.${id}`;

export function loadDraft<T>(project: number, id: string): T | undefined {
  const text = sessionStorage.getItem(name(project, id));
  if (text === null) return undefined;
  try {
    return JSON.parse(text) as T;
  } catch {
    return undefined;
  }
}

export function saveDraft(project: number, id: string, draft: unknown): void {
  try {
    sessionStorage.setItem(name(project, id), JSON.stringify(draft));
  } catch {
    // The storage of the tab is full. The draft stays on the page.
  }
}

export function dropDraft(project: number, id: string): void {
  sessionStorage.removeItem(name(project, id));
}
