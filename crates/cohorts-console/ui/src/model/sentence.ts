// A criterion as words, for screens that only show it. A part with `strong` is a name or a value of the data.

import { COUNT_OPERATORS, OPERATORS, spell, takesNoValue, takesTwoNumbers, wordsOf } from './words';
import { isNever } from './edit';
import { isEver, isGroup } from './filter';
import type { Behavior, Criterion, EventRef, Group, Json, Node, PropertyTest, Window } from './filter';

export interface Part {
  text: string;
  strong?: boolean;
  cohort?: number;
}

/** Names of objects by id. */
export interface Names {
  cohort(id: number): string | undefined;
  action(id: string): string | undefined;
}

const word = (text: string): Part => ({ text });
const data = (text: string): Part => ({ text, strong: true });

export function sentence({ test, negated }: Criterion, names: Names): Part[] {
  switch (test.kind) {
    case 'property':
      return [...(negated ? [word('not:')] : []), ...property(test)];
    case 'created':
      return [word(negated ? 'not:' : ''), word('first seen'), ...comparison(test.operator, test.value)].filter(
        ({ text }) => text !== '',
      );
    case 'cohort': {
      const id = test.cohort ?? 0;
      return [word(negated ? 'is not in' : 'is in'), { text: names.cohort(id) ?? `cohort ${id}`, strong: true, cohort: id }];
    }
    case 'event': {
      const { event, where, behavior } = test;
      const conditions = where.flatMap((part, at) => [word(at === 0 ? 'where' : 'and'), ...property(part)]);
      return [...behaved(behavior, eventName(event, names), negated, names), ...conditions];
    }
    case 'other':
      return [word('a criterion that this page cannot show as a sentence:'), data(JSON.stringify(test.leaf))];
  }
}

function property({ key, operator, value }: PropertyTest): Part[] {
  return [data(key || '…'), ...comparison(operator, value)];
}

function comparison(operator: string, value: Json | undefined): Part[] {
  const words = word(wordsOf(OPERATORS, operator));
  if (takesNoValue(operator)) return [words];
  if (takesTwoNumbers(operator) && Array.isArray(value)) {
    return [words, data(show(value[0])), word('and'), data(show(value[1]))];
  }
  if (!Array.isArray(value)) return [words, data(dateWords(operator, value))];
  const elements = value.flatMap((element, at) => {
    const before = at === 0 ? [] : [word(at === value.length - 1 ? 'or' : ',')];
    return [...before, data(show(element))];
  });
  return [words, ...elements];
}

function dateWords(operator: string, value: Json | undefined): string {
  const text = show(value);
  const match = operator.startsWith('is_date_') ? /^-?(\d+)([hdwmy])$/.exec(text) : null;
  if (!match) return text;
  const unit = { h: 'hour', d: 'day', w: 'week', m: 'month', y: 'year' }[match[2] ?? ''] ?? '';
  return `${spell(Number(match[1]), unit)} ago`;
}

/** A value as text: strings as they are, and all others as JSON. */
export function show(value: Json | undefined): string {
  if (value === undefined || value === '') return '…';
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** The name of an event or an action. */
export function eventName({ type, key }: EventRef, names: Names): string {
  if (key === '') return '…';
  return type === 'events' ? key : (names.action(key) ?? `action ${key}`);
}

function behaved(behavior: Behavior, event: string, negated: boolean, names: Names): Part[] {
  const did = word(negated ? 'did not do' : 'did');
  const not = negated ? [word('not:')] : [];
  switch (behavior.kind) {
    case 'performed_event':
      return isNever(behavior, negated) ? [word('never did'), data(event)] : [did, data(event), ...during(behavior.window)];
    case 'performed_event_multiple': {
      const { operator, amount } = behavior.count;
      return [...not, word('did'), data(event), word(wordsOf(COUNT_OPERATORS, operator)), data(times(amount)), ...during(behavior.window)];
    }
    case 'performed_event_first_time':
      return [...not, word('did'), data(event), word('for the first time'), ...during(behavior.window)];
    case 'performed_event_sequence': {
      const { window, next, within } = behavior;
      const second = [word('and then'), data(eventName(next, names)), word('within'), data(spell(within.amount, within.unit))];
      return [...not, word('did'), data(event), ...during(window), ...second];
    }
    case 'performed_event_regularly': {
      const { count, period, periods, minimum } = behavior;
      const often = [word(wordsOf(COUNT_OPERATORS, count.operator)), data(times(count.amount))];
      const each = [word('in each of at least'), data(`${minimum ?? '…'} of the last ${periods ?? '…'}`), word('periods of')];
      return [...not, word('did'), data(event), ...often, ...each, data(spell(period.amount, period.unit))];
    }
    default: {
      const { kind, outer, inner } = behavior;
      const last = [word('in the last'), data(spell(outer.amount, outer.unit)), word(kind === 'stopped_performing_event' ? ', and not in the last' : ', after a pause, in the last'), data(spell(inner.amount, inner.unit))];
      return [...not, word(kind === 'stopped_performing_event' ? 'stopped doing' : 'did again'), data(event), ...last];
    }
  }
}

const times = (amount: number | null) => (amount === 1 ? '1 time' : `${amount ?? '…'} times`);

/** The words of a window after a verb. */
export function during(window: Window): Part[] {
  if (isEver(window)) return [word('at any time')];
  if (window.kind === 'last') return [word('in the last'), data(spell(window.amount, window.unit))];
  const to = window.to === '' ? [] : [word('to'), data(window.to)];
  return [word('from'), data(window.from || '…'), ...to];
}

/** Parts as one text. No blank precedes a comma. */
export function text(parts: Part[]): string {
  return parts.map((part) => part.text).join(' ').replaceAll(' ,', ',');
}

/** A filter in one line. */
export function summary(root: Group, names: Names): string {
  const line = (node: Node, isInner: boolean): string => {
    if (!isGroup(node)) return text(sentence(node, names));
    const inner = node.nodes.map((child) => line(child, node.nodes.length > 1));
    const joined = inner.join(node.join === 'AND' ? ' and ' : ' or ');
    return isInner && node.nodes.length > 1 ? `(${joined})` : joined;
  };
  return line(root, false);
}

