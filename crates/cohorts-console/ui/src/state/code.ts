// The code of an address that signs in. It leaves the address before any other part of the page reads it.

/** The code behind `#`, which is removed from the address and from the history. */
function take(): string | undefined {
  const hidden = new URLSearchParams(location.hash.slice(1));
  const code = hidden.get('code');
  if (code === null) return undefined;
  hidden.delete('code');
  const rest = hidden.toString();
  history.replaceState(null, '', `${location.pathname}${location.search}${rest === '' ? '' : `#${rest}`}`);
  return code;
}

/** The code with which the page was opened. */
export const firstCode = take();

let use: ((code: string) => void) | undefined;
/** Calls `next` when a code is put into the address of the open page. */
export const onCode = (next: (code: string) => void) => {
  use = next;
};
addEventListener('hashchange', () => {
  const code = take();
  if (code !== undefined) use?.(code);
});
