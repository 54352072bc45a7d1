// A text field with suggestions, after the combobox pattern of ARIA. Any text may be entered.

import { useEffect, useId, useState } from 'preact/hooks';
import { Options, useOptions } from './options';
import type { Suggester } from './options';

export type { Suggestion, Suggestions, Suggester } from './options';

interface Properties {
  value: string;
  label: string;
  placeholder?: string;
  suggest: Suggester;
  change: (value: string) => void;
  /** Called when a suggestion is chosen, or Enter is pressed. */
  choose?: (value: string) => void;
  /** A key that removes the element before the field when it is empty. */
  eraseBefore?: () => void;
  isInvalid?: boolean;
  /** Shown under a typed text that no suggestion equals, when the field is left. */
  unknown?: string;
}

export function Suggest({ value, label, placeholder, suggest, change, choose, eraseBefore, isInvalid, unknown }: Properties) {
  const id = useId();
  const [isTyped, setTyped] = useState(false);
  const options = useOptions(value, suggest, (suggestion) => {
    setTyped(false);
    (choose ?? change)(suggestion.value);
  });
  const isUnknown = useIsUnknown(unknown !== undefined && isTyped && !options.isOpen ? value : '', suggest);
  const press = (event: KeyboardEvent) => {
    if (options.press(event)) return;
    if (event.key === 'Enter') {
      choose?.(value);
      options.close();
      event.preventDefault();
    } else if (event.key === 'Backspace' && value === '') {
      eraseBefore?.();
    }
  };
  return (
    <span class="suggest">
      <input
        type="text"
        role="combobox"
        aria-label={label}
        aria-expanded={options.isShown}
        aria-controls={`${id}-list`}
        aria-describedby={`${id}-hint`}
        aria-autocomplete="list"
        aria-activedescendant={options.activeOf(id)}
        aria-invalid={isInvalid ? 'true' : undefined}
        autocomplete="off"
        spellcheck={false}
        placeholder={placeholder}
        value={value}
        size={Math.min(Math.max(value.length, (placeholder ?? '').length, 4), 28)}
        onInput={(event) => {
          options.typed();
          setTyped(true);
          change(event.currentTarget.value);
        }}
        onFocus={options.open}
        onClick={options.ask}
        onBlur={options.close}
        onKeyDown={press}
      />
      <Options id={id} label={label} options={options} />
      <small class="unknown" role="status">
        {isUnknown ? unknown : ''}
      </small>
    </span>
  );
}

/** Whether the service has all suggestions for a text, and none of them is the text itself. */
function useIsUnknown(text: string, suggest: Suggester): boolean {
  const [isUnknown, setUnknown] = useState(false);
  useEffect(() => {
    setUnknown(false);
    if (text === '') return undefined;
    const controller = new AbortController();
    suggest(text, controller.signal).then(
      ({ list, hint }) => {
        if (!controller.signal.aborted) setUnknown(hint === undefined && !list.some(({ value }) => value === text));
      },
      // Without an answer it is not known.
      () => undefined,
    );
    return () => controller.abort();
  }, [text]);
  return isUnknown;
}
