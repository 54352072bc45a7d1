// The value of a comparison: none, two numbers, a number, a date, a text, or several values.

import { useState } from 'preact/hooks';
import type { Json } from '../model/filter';
import { show } from '../model/sentence';
import { takesDate, takesList, takesNoValue, takesNumber, takesTwoNumbers } from '../model/words';
import { Icon } from '../parts/icons';
import { Suggest } from '../parts/suggest';
import type { Suggester, Suggestion, Suggestions } from '../parts/suggest';

interface Properties {
  operator: string;
  value: Json | undefined;
  isStrict: boolean;
  suggest: Suggester;
  change: (value: Json) => void;
}

export function ValueEditor({ operator, value, isStrict, suggest, change }: Properties) {
  if (takesNoValue(operator)) return null;
  if (takesTwoNumbers(operator)) {
    const [low = '', high = ''] = Array.isArray(value) ? value : [];
    return (
      <>
        <input class="value" inputMode="decimal" aria-label="Lowest value" size={6} value={plain(low)} onInput={(event) => change([numeric(event.currentTarget.value), high])} />
        <span>and</span>
        <input class="value" inputMode="decimal" aria-label="Highest value" size={6} value={plain(high)} onInput={(event) => change([low, numeric(event.currentTarget.value)])} />
      </>
    );
  }
  if (takesNumber(operator) && !Array.isArray(value)) {
    return <input class="value" inputMode="decimal" aria-label="Value" placeholder="number" size={8} aria-invalid={isStrict && value === '' ? 'true' : undefined} value={plain(value)} onInput={(event) => change(numeric(event.currentTarget.value))} />;
  }
  if (takesDate(operator) && !Array.isArray(value)) {
    return <Suggest label="Date" placeholder="-30d or 2026-01-31" value={plain(value)} isInvalid={isStrict && value === ''} suggest={suggestDates} change={change} />;
  }
  if (takesList(operator) && !['regex', 'not_regex'].includes(operator)) {
    return <ListEditor value={value} isStrict={isStrict} suggest={suggest} change={change} />;
  }
  if (Array.isArray(value)) return <ListEditor value={value} isStrict={isStrict} suggest={suggest} change={change} />;
  return <input class="value" aria-label="Value" placeholder="value" size={Math.min(Math.max(plain(value).length, 8), 40)} spellcheck={false} value={plain(value)} onInput={(event) => change(event.currentTarget.value)} />;
}

const plain = (value: Json | undefined) => (value === undefined || value === '' ? '' : show(value));

/** A number if the text is one, so that the JSON has a number too. */
function numeric(text: string): Json {
  const number = Number(text);
  return text.trim() !== '' && Number.isFinite(number) && String(number) === text.trim() ? number : text;
}

const DATES: Suggestion[] = [
  { value: '-1d', label: '1 day ago' },
  { value: '-7d', label: '7 days ago' },
  { value: '-30d', label: '30 days ago' },
  { value: '-3m', label: '3 months ago' },
  { value: '-1y', label: '1 year ago' },
].map((date) => ({ ...date, note: date.value }));

async function suggestDates(text: string): Promise<Suggestions> {
  const today = { value: new Date().toISOString().slice(0, 10), label: 'today at 00:00', note: '' };
  return { list: [...DATES, { ...today, note: today.value }].filter(({ value, label }) => `${value} ${label}`.includes(text) || value === text) };
}

/** Values as pieces, and a field for one more. The text of the field counts before it becomes a piece. */
function ListEditor({ value, isStrict, suggest, change }: Omit<Properties, 'operator'>) {
  const [text, setText] = useState('');
  const elements = Array.isArray(value) ? value : value === undefined || value === '' ? [] : [value];
  const isLast = text !== '' && elements.at(-1) === text;
  const pieces = isLast ? elements.slice(0, -1) : elements;
  const put = (list: Json[]) => change(list.length === 0 ? '' : list.length === 1 && list[0] !== undefined ? list[0] : list);
  const type = (next: string) => {
    setText(next);
    put(next === '' ? pieces : [...pieces, next]);
  };
  const settle = (next: string) => {
    setText('');
    put(next === '' || pieces.includes(next) ? pieces : [...pieces, next]);
  };
  return (
    <span
      class="pieces"
      onFocusOut={(event) => {
        if (!event.currentTarget.contains(event.relatedTarget as Node | null)) settle(text);
      }}
    >
      {pieces.map((piece, at) => (
        <span class="piece" key={`${at} ${show(piece)}`}>
          <span>{piece === '' ? '(empty)' : show(piece)}</span>
          <button type="button" class="quiet" aria-label={`Remove ${show(piece)}`} onClick={() => put(pieces.filter((_, index) => index !== at))}>
            <Icon name="close" />
          </button>
        </span>
      ))}
      <Suggest
        label="Value"
        placeholder={pieces.length === 0 ? 'value' : 'or …'}
        value={text}
        isInvalid={isStrict && elements.length === 0}
        suggest={suggest}
        change={type}
        choose={settle}
        eraseBefore={() => put(pieces.slice(0, -1))}
      />
    </span>
  );
}
