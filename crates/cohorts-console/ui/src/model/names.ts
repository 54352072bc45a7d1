// The order of suggested names.

/** Whether a name begins with a text, whatever the case. */
export const begins = (name: string, text: string) => name.toLowerCase().startsWith(text.toLowerCase());

/**
 * Names that begin with the text come first. Of both parts, names of the project come before those with `$`, which SDKs
 * add. Otherwise the order stays.
 */
export function nearestFirst<T>(list: T[], text: string, nameOf: (element: T) => string): T[] {
  const rank = (element: T) => (begins(nameOf(element), text) ? 0 : 2) + (nameOf(element).startsWith('$') ? 1 : 0);
  return list.map((element, at) => ({ element, at, rank: rank(element) })).sort((a, b) => a.rank - b.rank || a.at - b.at).map(({ element }) => element);
}
