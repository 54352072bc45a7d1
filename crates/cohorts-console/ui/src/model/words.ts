// Words for the values that the filter language has, in the order in which the page offers them.

export interface Choice {
  value: string;
  words: string;
}

const choices = (pairs: [string, string][]): Choice[] => pairs.map(([value, words]) => ({ value, words }));

/** How a property is compared. */
export const OPERATORS = choices([
  ['exact', 'is'],
  ['is_not', 'is not'],
  ['icontains', 'contains'],
  ['not_icontains', 'does not contain'],
  ['starts_with', 'begins with'],
  ['not_starts_with', 'does not begin with'],
  ['ends_with', 'ends with'],
  ['not_ends_with', 'does not end with'],
  ['is_set', 'is set'],
  ['is_not_set', 'is not set'],
  ['gt', 'is greater than'],
  ['gte', 'is at least'],
  ['lt', 'is less than'],
  ['lte', 'is at most'],
  ['between', 'is between'],
  ['not_between', 'is not between'],
  ['is_date_before', 'is before'],
  ['is_date_after', 'is after'],
  ['is_date_exact', 'is at the instant'],
  ['regex', 'matches the pattern'],
  ['not_regex', 'does not match the pattern'],
  ['in', 'is one of'],
  ['not_in', 'is none of'],
  ['icontains_multi', 'contains one of'],
  ['not_icontains_multi', 'contains none of'],
  ['min', 'is no less than'],
  ['max', 'is no more than'],
  ['semver_eq', 'is the version'],
  ['semver_neq', 'is another version than'],
  ['semver_gt', 'is a later version than'],
  ['semver_gte', 'is at least the version'],
  ['semver_lt', 'is an earlier version than'],
  ['semver_lte', 'is at most the version'],
  ['semver_tilde', 'is a version near ~'],
  ['semver_caret', 'is a version compatible with ^'],
  ['semver_wildcard', 'is a version like'],
]);

/** Operators of the creation time of a person. */
export const TIME_OPERATORS = OPERATORS.filter(({ value }) => value.startsWith('is_date_') || value.endsWith('_set'));

/** The number of events, compared. */
export const COUNT_OPERATORS = choices([
  ['gte', 'at least'],
  ['lte', 'at most'],
  ['gt', 'more than'],
  ['lt', 'fewer than'],
  ['exact', 'exactly'],
]);

export const UNITS = choices([
  ['hour', 'hours'],
  ['day', 'days'],
  ['week', 'weeks'],
  ['month', 'months'],
  ['year', 'years'],
]);

/** What a person did, as the first words of a sentence. A number of times is part of the same sentence as `did`. */
export const BEHAVIORS = choices([
  ['performed_event', 'did'],
  ['performed_event_first_time', 'did for the first time'],
  ['performed_event_sequence', 'did in sequence'],
  ['performed_event_regularly', 'did regularly'],
  ['stopped_performing_event', 'stopped doing'],
  ['restarted_performing_event', 'did again after a pause'],
]);

/** The words of a value; the value itself if it has none. */
export function wordsOf(list: Choice[], value: string): string {
  return list.find((choice) => choice.value === value)?.words ?? value;
}

export const takesNoValue = (operator: string) => operator === 'is_set' || operator === 'is_not_set';
export const takesTwoNumbers = (operator: string) => operator === 'between' || operator === 'not_between';
export const takesDate = (operator: string) => operator.startsWith('is_date_');
export const takesNumber = (operator: string) => ['gt', 'gte', 'lt', 'lte', 'min', 'max'].includes(operator);
/** Operators that accept a list. One element must match. */
export const takesList = (operator: string) =>
  !takesNoValue(operator) && !takesTwoNumbers(operator) && !takesNumber(operator) && !takesDate(operator);

/** A unit with its number: `1 day`, `30 days`. */
export function spell(amount: number | null, unit: string): string {
  const words = amount === 1 ? unit : `${unit}s`;
  return `${amount ?? '…'} ${words}`;
}
