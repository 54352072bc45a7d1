// Small controls: a labelled field, a list of choices, a number, tabs, a copy button.

import type { ComponentChildren } from 'preact';
import { useId, useState } from 'preact/hooks';
import type { Choice } from '../model/words';
import { href } from '../state/router';
import { Icon } from './icons';

export function Field({ label, hint, error, children }: { label: string; hint?: string | undefined; error?: string | undefined; children: (id: string) => ComponentChildren }) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {children(id)}
      {hint && !error && <small class="hint">{hint}</small>}
      {error && (
        <small class="problem" role="alert">
          {error}
        </small>
      )}
    </div>
  );
}

export function Select({ value, choices, label, change }: { value: string; choices: Choice[]; label: string; change: (value: string) => void }) {
  const isKnown = choices.some((choice) => choice.value === value);
  return (
    <select aria-label={label} value={value} onChange={(event) => change(event.currentTarget.value)}>
      {!isKnown && <option value={value}>{value}</option>}
      {choices.map((choice) => (
        <option key={choice.value} value={choice.value}>
          {choice.words}
        </option>
      ))}
    </select>
  );
}

/** A whole number; null while the text is none. */
export function NumberField({ value, label, change, isInvalid }: { value: number | null; label: string; change: (value: number | null) => void; isInvalid?: boolean }) {
  return (
    <input
      class="number-field"
      type="number"
      min={1}
      step={1}
      aria-label={label}
      aria-invalid={isInvalid || value === null || value < 1 ? 'true' : undefined}
      value={value ?? ''}
      onFocus={(event) => event.currentTarget.select()}
      onInput={(event) => {
        const { value: text } = event.currentTarget;
        const amount = Number(text);
        change(text === '' || !Number.isSafeInteger(amount) ? null : amount);
      }}
    />
  );
}

export interface Tab {
  id: string;
  words: string;
  path: string;
}

/** Links to the parts of a screen. */
export function Tabs({ tabs, current, label }: { tabs: Tab[]; current: string; label: string }) {
  return (
    <nav class="tabs" aria-label={label}>
      {tabs.map(({ id, words, path }) => (
        <a key={id} href={href(path)} aria-current={id === current ? 'page' : undefined}>
          {words}
        </a>
      ))}
    </nav>
  );
}

export function CopyButton({ text, words = 'Copy' }: { text: () => string; words?: string }) {
  const [isDone, setDone] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text());
      setDone(true);
      setTimeout(() => setDone(false), 2_000);
    } catch {
      setDone(false);
    }
  };
  return (
    <button type="button" onClick={copy}>
      <Icon name={isDone ? 'check' : 'copy'} />
      {isDone ? 'Copied' : words}
    </button>
  );
}

export function SearchField({ value, label, placeholder, change }: { value: string; label: string; placeholder?: string; change: (value: string) => void }) {
  return (
    <span class="search">
      <Icon name="search" />
      <input
        type="search"
        aria-label={label}
        placeholder={placeholder ?? label}
        value={value}
        autocomplete="off"
        spellcheck={false}
        onInput={(event) => change(event.currentTarget.value)}
      />
    </span>
  );
}
