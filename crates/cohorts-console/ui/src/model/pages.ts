// Pages of a list with cursors.

/** The cursor in the link to the next page; `undefined` on the last page. The link may have another host than this page. */
export function cursorOf(link: string | null | undefined): string | undefined {
  if (!link) return undefined;
  const [, query = ''] = link.split('?');
  return new URLSearchParams(query).get('cursor') || undefined;
}
