// What is missing or wrong in a criterion, in words. The service checks everything; this only finds what is not complete
// yet, so that the page neither sends it nor shows an error during typing.

import { takesDate, takesNoValue, takesNumber, takesTwoNumbers } from './words';
import type { Criterion, EventRef, Json, PropertyTest, Span, Window } from './filter';

/** The first problem of a criterion; `undefined` if it is complete. */
export function problem({ test }: Criterion): string | undefined {
  switch (test.kind) {
    case 'property':
      return propertyProblem(test);
    case 'created':
      return valueProblem(test.operator, test.value);
    case 'cohort':
      return test.cohort === null ? 'Choose a cohort.' : undefined;
    case 'other':
      return undefined;
    case 'event': {
      const { behavior } = test;
      const parts: (string | undefined)[] = [eventProblem(test.event)];
      if ('count' in behavior) parts.push(numberProblem(behavior.count.amount, 'a number of times'));
      if ('window' in behavior) parts.push(windowProblem(behavior.window));
      if ('next' in behavior) parts.push(eventProblem(behavior.next), spanProblem(behavior.within));
      if ('outer' in behavior) parts.push(spanProblem(behavior.outer), spanProblem(behavior.inner));
      if ('period' in behavior) {
        parts.push(spanProblem(behavior.period), numberProblem(behavior.periods, 'a number of periods'));
        parts.push(numberProblem(behavior.minimum, 'a number of periods'));
        if ((behavior.minimum ?? 0) > (behavior.periods ?? 0)) parts.push('There are fewer periods than must hold.');
      }
      parts.push(...test.where.map(propertyProblem));
      return parts.find((part) => part !== undefined);
    }
  }
}

function propertyProblem({ key, operator, value }: PropertyTest): string | undefined {
  return key === '' ? 'Enter the name of a property.' : valueProblem(operator, value);
}

function valueProblem(operator: string, value: Json | undefined): string | undefined {
  if (takesNoValue(operator)) return undefined;
  const isEmpty = value === undefined || value === '' || (Array.isArray(value) && value.length === 0);
  if (takesTwoNumbers(operator)) {
    const bounds = Array.isArray(value) ? value : [];
    const isPair = bounds.length === 2 && bounds.every((bound) => isNumeric(bound));
    return isPair ? undefined : 'Enter two numbers.';
  }
  if (isEmpty) return takesDate(operator) ? 'Enter a date, or a period such as -30d.' : 'Enter a value.';
  if (takesNumber(operator) && !Array.isArray(value) && !isNumeric(value)) return 'Enter a number.';
  return undefined;
}

function isNumeric(value: Json | undefined): boolean {
  return typeof value === 'number' || (typeof value === 'string' && value.trim() !== '' && Number.isFinite(Number(value)));
}

const eventProblem = ({ type, key }: EventRef) =>
  key === '' ? (type === 'events' ? 'Enter the name of an event.' : 'Choose an action.') : undefined;
const numberProblem = (amount: number | null, words: string) =>
  amount === null || amount < 1 ? `Enter ${words}, 1 or more.` : undefined;
const spanProblem = ({ amount }: Span) => numberProblem(amount, 'a length of time');
const windowProblem = (window: Window) =>
  window.kind === 'last' ? spanProblem(window) : window.from === '' ? 'Enter the first date.' : undefined;

/** An error of the service that names a node: its path, and the text without the path. */
export function located(detail: string): { path: string; reason: string } | undefined {
  const match = /^(properties(?:\.values\[\d+\])*): (.*)$/s.exec(detail);
  return match?.[1] && match[2] ? { path: match[1], reason: match[2] } : undefined;
}
