// A text field with suggestions, after the combobox pattern of ARIA. Any text may be entered.

import { useEffect, useId, useRef, useState } from 'preact/hooks';
import { isAbort } from '../api/error';

export interface Suggestion {
  value: string;
  /** Shown instead of the value. */
  label?: string;
  /** Words at the right, such as a count. */
  note?: string;
}

interface Properties {
  value: string;
  label: string;
  placeholder?: string;
  suggest: (text: string, signal: AbortSignal) => Promise<Suggestion[]>;
  change: (value: string) => void;
  /** Called when a suggestion is chosen, or Enter is pressed. */
  choose?: (value: string) => void;
  /** A key that removes the element before the field when it is empty. */
  eraseBefore?: () => void;
  isInvalid?: boolean;
  className?: string;
}

export function Suggest({ value, label, placeholder, suggest, change, choose, eraseBefore, isInvalid, className }: Properties) {
  const id = useId();
  const [isOpen, setOpen] = useState(false);
  const [list, setList] = useState<Suggestion[]>([]);
  const [active, setActive] = useState(-1);
  const [round, setRound] = useState(0);
  const isAsked = useRef(false);
  const latest = useRef(suggest);
  latest.current = suggest;

  useEffect(() => {
    if (!isOpen) return undefined;
    const controller = new AbortController();
    latest.current(value, controller.signal).then(
      (found) => {
        if (controller.signal.aborted) return;
        // A whole name is what the user wants; the arrow keys still show the others.
        const isWhole = found.some((suggestion) => suggestion.value === value);
        setList(isWhole && !isAsked.current ? [] : found);
        setActive(-1);
      },
      (error: unknown) => {
        // Suggestions are not essential: any text may be entered.
        if (!isAbort(error)) setList([]);
      },
    );
    return () => controller.abort();
  }, [value, isOpen, round]);

  const take = (suggestion: Suggestion) => {
    setOpen(false);
    if (choose) choose(suggestion.value);
    else change(suggestion.value);
  };
  const press = (event: KeyboardEvent) => {
    const isShown = isOpen && list.length > 0;
    if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
      event.preventDefault();
      isAsked.current = true;
      if (!isOpen || list.length === 0) setRound((former) => former + 1);
      setOpen(true);
      const step = event.key === 'ArrowDown' ? 1 : -1;
      if (isShown) setActive((at) => (at + step + list.length + (at < 0 && step < 0 ? 1 : 0)) % list.length);
    } else if (event.key === 'Enter') {
      const suggestion = isShown ? list[active] : undefined;
      if (suggestion) take(suggestion);
      else choose?.(value);
      setOpen(false);
      event.preventDefault();
    } else if (event.key === 'Escape' && isOpen) {
      event.preventDefault();
      event.stopPropagation();
      setOpen(false);
    } else if (event.key === 'Backspace' && value === '') {
      eraseBefore?.();
    }
  };
  const isShown = isOpen && list.length > 0;
  return (
    <span class={`suggest ${className ?? ''}`}>
      <input
        type="text"
        role="combobox"
        aria-label={label}
        aria-expanded={isShown}
        aria-controls={`${id}-list`}
        aria-autocomplete="list"
        aria-activedescendant={isShown && active >= 0 ? `${id}-${active}` : undefined}
        aria-invalid={isInvalid ? 'true' : undefined}
        autocomplete="off"
        spellcheck={false}
        placeholder={placeholder}
        value={value}
        size={Math.min(Math.max(value.length, (placeholder ?? '').length, 4), 28)}
        onInput={(event) => {
          isAsked.current = false;
          setOpen(true);
          change(event.currentTarget.value);
        }}
        onFocus={() => setOpen(true)}
        onBlur={() => {
          isAsked.current = false;
          setOpen(false);
        }}
        onKeyDown={press}
      />
      <ul id={`${id}-list`} role="listbox" aria-label={`Suggestions: ${label}`} hidden={!isShown}>
        {isShown &&
          list.map((suggestion, at) => (
            <li
              id={`${id}-${at}`}
              key={suggestion.value}
              role="option"
              aria-selected={at === active}
              onMouseDown={(event) => {
                // The field keeps the focus.
                event.preventDefault();
                take(suggestion);
              }}
            >
              <span>{suggestion.label ?? suggestion.value}</span>
              {suggestion.note && <small>{suggestion.note}</small>}
            </li>
          ))}
      </ul>
    </span>
  );
}
