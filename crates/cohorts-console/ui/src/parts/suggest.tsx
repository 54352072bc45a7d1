// A text field with suggestions, after the combobox pattern of ARIA. Any text may be entered.

import type { RefObject } from 'preact';
import { useId } from 'preact/hooks';
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
  className?: string;
  input?: RefObject<HTMLInputElement>;
}

export function Suggest({ value, label, placeholder, suggest, change, choose, eraseBefore, isInvalid, className, input }: Properties) {
  const id = useId();
  const options = useOptions(value, suggest, (suggestion) => (choose ?? change)(suggestion.value));
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
    <span class={`suggest ${className ?? ''}`}>
      <input
        ref={input}
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
          change(event.currentTarget.value);
        }}
        onFocus={options.open}
        onBlur={options.close}
        onKeyDown={press}
      />
      <Options id={id} label={label} options={options} />
    </span>
  );
}
