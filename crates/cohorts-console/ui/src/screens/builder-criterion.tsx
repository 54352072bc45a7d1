// One criterion as a sentence of controls.

import { useEffect, useRef, useState } from 'preact/hooks';
import { countOf, isNever, newBehavior, withCount } from '../model/edit';
import { EVER, isBehaviorKind, isEver } from '../model/filter';
import type { Behavior, Count, Criterion, EventRef, Json, JsonObject, PropertyTest, Span, Test, Window } from '../model/filter';
import { BEHAVIORS, COUNT_OPERATORS, OPERATORS, TIME_OPERATORS, UNITS, takesNoValue, takesTwoNumbers } from '../model/words';
import type { Choice } from '../model/words';
import { NumberField, Select } from '../parts/field';
import { Icon } from '../parts/icons';
import { Suggest } from '../parts/suggest';
import type { Suggester } from '../parts/suggest';
import { ACTION, catalogue } from '../state/catalogue';
import { suggestEventProperties, suggestEventValues, suggestEvents, suggestNothing, suggestPersonProperties, suggestPersonValues } from '../state/suggestions';
import { ValueEditor } from './builder-value';

interface Properties {
  criterion: Criterion;
  isStrict: boolean;
  change: (criterion: Criterion) => void;
}

export function CriterionEditor({ criterion, isStrict, change }: Properties) {
  const { test, negated } = criterion;
  const set = (next: Test) => change({ ...criterion, test: next });
  // The first word of a sentence about events and cohorts can express "not" itself.
  const hasOwnNot = test.kind === 'cohort' || (test.kind === 'event' && test.behavior.kind === 'performed_event');
  return (
    <span class="words">
      {negated && !hasOwnNot && (
        <button type="button" class="not" title="Remove “not”" onClick={() => change({ ...criterion, negated: false })}>
          not
        </button>
      )}
      {test.kind === 'property' && (
        <PropertyEditor test={test} isStrict={isStrict} change={(next) => set({ kind: 'property', ...next })} suggestNames={suggestPersonProperties} suggestValues={suggestPersonValues} />
      )}
      {test.kind === 'created' && <CreatedEditor test={test} set={set} />}
      {test.kind === 'cohort' && <CohortEditor test={test} negated={negated} isStrict={isStrict} change={(next, not) => change({ ...criterion, test: next, negated: not })} />}
      {test.kind === 'event' && <EventEditor test={test} negated={negated} isStrict={isStrict} change={(next, not) => change({ ...criterion, test: next, negated: not })} />}
      {test.kind === 'other' && <OtherEditor leaf={test.leaf} change={(leaf) => set({ kind: 'other', leaf })} />}
    </span>
  );
}

interface PropertyProperties {
  test: PropertyTest;
  isStrict: boolean;
  change: (test: PropertyTest) => void;
  suggestNames: Suggester;
  /** The values of the property. */
  suggestValues: (key: string) => Suggester;
}

/** The value for another operator: what both can have stays. */
function valueFor(operator: string, value: Json | undefined): Json | undefined {
  if (takesNoValue(operator)) return undefined;
  if (takesTwoNumbers(operator)) return Array.isArray(value) && value.length === 2 ? value : ['', ''];
  return value ?? '';
}

function PropertyEditor({ test, isStrict, change, suggestNames, suggestValues }: PropertyProperties) {
  const { key, operator, value } = test;
  const put = (nextOperator: string, nextValue: Json | undefined) =>
    change(nextValue === undefined ? { key, operator: nextOperator } : { key, operator: nextOperator, value: nextValue });
  const words = useRef<HTMLSpanElement>(null);
  const choose = (text: string) => {
    change({ ...test, key: text });
    // The next words of the sentence are the comparison, which is right most of the time, and the value.
    requestAnimationFrame(() => words.current?.querySelector<HTMLElement>('input[aria-label="Value"]')?.focus());
  };
  return (
    <span class="property" ref={words}>
      <Suggest label="Property" placeholder="property" value={key} isInvalid={isStrict && key === ''} unknown="No one has this property yet." suggest={suggestNames} change={(text) => change({ ...test, key: text })} choose={choose} />
      <Select label="Comparison" value={operator} choices={OPERATORS} change={(next) => put(next, valueFor(next, value))} />
      <ValueEditor
        operator={operator}
        value={value}
        isStrict={isStrict}
        suggest={suggestValues(key)}
        change={(next) => put(operator, next)}
      />
    </span>
  );
}

function CreatedEditor({ test, set }: { test: Extract<Test, { kind: 'created' }>; set: (test: Test) => void }) {
  const { operator, value } = test;
  const put = (next: string, nextValue: Json | undefined) => set(nextValue === undefined ? { kind: 'created', operator: next } : { kind: 'created', operator: next, value: nextValue });
  return (
    <>
      <span>first seen</span>
      <Select label="Comparison" value={operator} choices={TIME_OPERATORS} change={(next) => put(next, valueFor(next, value))} />
      <ValueEditor operator={operator} value={value} isStrict={false} suggest={suggestNothing} change={(next) => put(operator, next)} />
    </>
  );
}

const MEMBERSHIP: Choice[] = [
  { value: 'in', words: 'is in' },
  { value: 'out', words: 'is not in' },
];

interface CohortProperties {
  test: Extract<Test, { kind: 'cohort' }>;
  negated: boolean;
  isStrict: boolean;
  change: (test: Test, negated: boolean) => void;
}

function CohortEditor({ test, negated, isStrict, change }: CohortProperties) {
  const { cohorts } = catalogue.value;
  const isKnown = cohorts.some(({ id }) => id === test.cohort);
  return (
    <>
      <Select label="Membership" value={negated ? 'out' : 'in'} choices={MEMBERSHIP} change={(value) => change(test, value === 'out')} />
      <select
        aria-label="Cohort"
        aria-invalid={isStrict && test.cohort === null ? 'true' : undefined}
        class="cohort-choice"
        value={test.cohort ?? ''}
        onChange={(event) => change({ kind: 'cohort', cohort: Number(event.currentTarget.value) || null }, negated)}
      >
        <option value="">choose a cohort</option>
        {test.cohort !== null && !isKnown && <option value={test.cohort}>cohort {test.cohort}</option>}
        {cohorts.map(({ id, name }) => (
          <option key={id} value={id}>
            {name || 'Unnamed'}
          </option>
        ))}
      </select>
    </>
  );
}

interface EventProperties {
  test: Extract<Test, { kind: 'event' }>;
  negated: boolean;
  isStrict: boolean;
  change: (test: Test, negated: boolean) => void;
}

const NOT = 'not performed_event';
const NEVER = 'never performed_event';
const VERBS: Choice[] = [
  { value: 'performed_event', words: 'did' },
  { value: NOT, words: 'did not do' },
  { value: NEVER, words: 'never did' },
  ...BEHAVIORS.slice(1),
];

function verbOf(behavior: Behavior, negated: boolean): string {
  if (behavior.kind === 'performed_event_multiple') return 'performed_event';
  if (behavior.kind !== 'performed_event' || !negated) return behavior.kind;
  return isNever(behavior, negated) ? NEVER : NOT;
}

/** The behavior of a verb, with the parts of the former one that it has too. */
function behaviorOf(verb: string, former: Behavior): Behavior | undefined {
  if (verb === NEVER) return { kind: 'performed_event', window: EVER };
  // All the past is what "never" means, so another verb begins with a length of time.
  const hadEver = 'window' in former && isEver(former.window);
  if (verb === NOT) return newBehavior('performed_event', hadEver ? undefined : former);
  return isBehaviorKind(verb) ? newBehavior(verb, former) : undefined;
}

function EventEditor({ test, negated, isStrict, change }: EventProperties) {
  const { event, where, behavior } = test;
  const set = (next: Partial<typeof test>) => change({ ...test, ...next }, negated);
  // An action can have several events.
  const name = event.type === 'events' ? event.key : '';
  const verb = verbOf(behavior, negated);
  const isNot = verb === NOT || verb === NEVER;
  const choose = (value: string) => {
    const next = behaviorOf(value, verb === NEVER ? newBehavior('performed_event') : behavior);
    if (!next) return;
    const isNegatedElsewhere = negated && !isNot && value !== 'performed_event';
    change({ ...test, behavior: next }, value === NOT || value === NEVER || isNegatedElsewhere);
  };
  const count = isNot ? undefined : countOf(behavior);
  return (
    <>
      <Select label="What they did" value={verb} choices={VERBS} change={choose} />
      <EventChoice event={event} label="Event" isStrict={isStrict} change={(next) => set({ event: next })} />
      {count && <CountEditor count={count} change={(next) => set({ behavior: withCount(behavior, next, negated) })} />}
      {verb !== NEVER && <BehaviorEditor behavior={behavior} isStrict={isStrict} windows={verb === NOT ? WINDOWS_OF_NOT : WINDOWS} change={(next) => set({ behavior: next })} />}
      {where.map((part, at) => (
        <span class="where" key={at}>
          <span>{at === 0 ? 'where' : 'and'}</span>
          <PropertyEditor
            test={part}
            isStrict={isStrict}
            suggestNames={suggestEventProperties(name)}
            suggestValues={(key) => suggestEventValues(key, name)}
            change={(next) => set({ where: where.map((other, index) => (index === at ? next : other)) })}
          />
          <button type="button" class="quiet square" aria-label="Remove the condition" onClick={() => set({ where: where.filter((_, index) => index !== at) })}>
            <Icon name="close" />
          </button>
        </span>
      ))}
      <button type="button" class="link" onClick={() => set({ where: [...where, { key: '', operator: 'exact', value: '' }] })}>
        {where.length === 0 ? '+ where' : '+ and'}
      </button>
    </>
  );
}

/** An event by name; actions are among the suggestions. */
function EventChoice({ event, label, isStrict, change }: { event: EventRef; label: string; isStrict: boolean; change: (event: EventRef) => void }) {
  const { actions } = catalogue.value;
  if (event.type === 'events') {
    const choose = (value: string) => change(value.startsWith(ACTION) ? { type: 'actions', key: value.slice(ACTION.length) } : { type: 'events', key: value });
    return <Suggest label={label} placeholder="event" value={event.key} isInvalid={isStrict && event.key === ''} unknown="No event has this name yet." suggest={suggestEvents} change={(key) => change({ ...event, key })} choose={choose} />;
  }
  const isUnknown = !actions.some(({ id }) => String(id) === event.key);
  return (
    <select aria-label={`${label}: action`} value={event.key} onChange={(input) => change(input.currentTarget.value === '' ? { type: 'events', key: '' } : { ...event, key: input.currentTarget.value })}>
      {isUnknown && <option value={event.key}>action {event.key}</option>}
      {actions.map(({ id, name }) => (
        <option key={id} value={String(id)}>
          {name || `action ${id}`} (action)
        </option>
      ))}
      <option value="">an event by name …</option>
    </select>
  );
}

/** The parts of a behavior after the event and the number of times. */
function BehaviorEditor({ behavior, isStrict, windows, change }: { behavior: Behavior; isStrict: boolean; windows: Choice[]; change: (behavior: Behavior) => void }) {
  switch (behavior.kind) {
    case 'performed_event':
    case 'performed_event_first_time':
    case 'performed_event_multiple':
      return <WindowEditor window={behavior.window} windows={windows} change={(window) => change({ ...behavior, window })} />;
    case 'performed_event_sequence':
      return (
        <>
          <span>and then</span>
          <EventChoice event={behavior.next} label="Next event" isStrict={isStrict} change={(next) => change({ ...behavior, next })} />
          <span>within</span>
          <SpanEditor span={behavior.within} label="Time between the events" change={(within) => change({ ...behavior, within })} />
          <span class="comma">, both</span>
          <WindowEditor window={behavior.window} windows={windows} change={(window) => change({ ...behavior, window })} />
        </>
      );
    case 'performed_event_regularly':
      return (
        <>
          <span>in each of at least</span>
          <NumberField label="Periods that must hold" value={behavior.minimum} change={(minimum) => change({ ...behavior, minimum })} />
          <span>of the last</span>
          <NumberField label="Periods" value={behavior.periods} change={(periods) => change({ ...behavior, periods })} />
          <span>periods of</span>
          <SpanEditor span={behavior.period} label="Length of a period" change={(period) => change({ ...behavior, period })} />
        </>
      );
    default:
      return (
        <>
          <span>in the last</span>
          <SpanEditor span={behavior.outer} label="Time window" change={(outer) => change({ ...behavior, outer })} />
          <span class="comma">{behavior.kind === 'stopped_performing_event' ? ', and not in the last' : ', and after a pause again in the last'}</span>
          <SpanEditor span={behavior.inner} label="Last part of the window" change={(inner) => change({ ...behavior, inner })} />
        </>
      );
  }
}

function CountEditor({ count, change }: { count: Count; change: (count: Count) => void }) {
  return (
    <span class="nowrap">
      <Select label="Comparison of the number" value={count.operator} choices={COUNT_OPERATORS} change={(operator) => change({ ...count, operator })} />
      <NumberField label="Number of times" value={count.amount} change={(amount) => change({ ...count, amount })} />
      <span>{count.amount === 1 ? 'time' : 'times'}</span>
    </span>
  );
}

function SpanEditor({ span, label, change }: { span: Span; label: string; change: (span: Span) => void }) {
  const units = span.amount === 1 ? UNITS.map(({ value }) => ({ value, words: value })) : UNITS;
  return (
    <span class="nowrap">
      <NumberField label={label} value={span.amount} change={(amount) => change({ ...span, amount })} />
      <Select label={`Unit: ${label.toLowerCase()}`} value={span.unit} choices={units} change={(unit) => change({ ...span, unit })} />
    </span>
  );
}

const WINDOWS: Choice[] = [
  { value: 'ever', words: 'at any time' },
  { value: 'last', words: 'in the last' },
  { value: 'dates', words: 'from' },
];
/** "Did not do … at any time" is "never did". */
const WINDOWS_OF_NOT = WINDOWS.slice(1);
const NEW_WINDOWS: Record<string, Window> = {
  ever: EVER,
  last: { kind: 'last', amount: 30, unit: 'day' },
  dates: { kind: 'dates', from: '', to: '' },
};

function WindowEditor({ window, windows, change }: { window: Window; windows: Choice[]; change: (window: Window) => void }) {
  const kind = isEver(window) ? 'ever' : window.kind;
  return (
    <span class="nowrap">
      <Select label="Kind of time window" value={kind} choices={windows} change={(next) => change(NEW_WINDOWS[next] ?? window)} />
      {window.kind === 'last' && <SpanEditor span={window} label="Time window" change={(span) => change({ ...window, ...span })} />}
      {window.kind === 'dates' && kind === 'dates' && (
        <>
          <input class="date" aria-label="First date" placeholder="2026-01-31 or -30d" size={16} value={window.from} onInput={(event) => change({ ...window, from: event.currentTarget.value })} />
          <span>to</span>
          <input class="date" aria-label="Last date" placeholder="today" size={16} value={window.to} onInput={(event) => change({ ...window, to: event.currentTarget.value })} />
        </>
      )}
    </span>
  );
}

/** A criterion that has no sentence, as JSON. */
function OtherEditor({ leaf, change }: { leaf: JsonObject; change: (leaf: JsonObject) => void }) {
  const json = JSON.stringify(leaf);
  const [text, setText] = useState(json);
  const [isWrong, setWrong] = useState(false);
  useEffect(() => setText((former) => (sameJson(former, json) ? former : json)), [json]);
  const edit = (value: string) => {
    setText(value);
    try {
      const next: unknown = JSON.parse(value);
      const isLeaf = typeof next === 'object' && next !== null && !Array.isArray(next);
      setWrong(!isLeaf);
      if (isLeaf) change(next as JsonObject);
    } catch {
      setWrong(true);
    }
  };
  return <textarea class="code" rows={2} aria-label="Criterion as JSON" aria-invalid={isWrong ? 'true' : undefined} value={text} onInput={(event) => edit(event.currentTarget.value)} />;
}

function sameJson(text: string, json: string): boolean {
  try {
    return JSON.stringify(JSON.parse(text)) === json;
  } catch {
    return false;
  }
}
