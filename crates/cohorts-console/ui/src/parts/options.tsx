// The list of suggestions below a field: what it has for the text, the choice with the keys, and the hint under it.

import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { isAbort } from '../api/error';

export interface Suggestion {
  value: string;
  /** Shown instead of the value. */
  label?: string;
  /** Words at the right, such as a count. */
  note?: string;
}

export interface Suggestions {
  list: Suggestion[];
  /** Why the list is short or empty. */
  hint?: string | undefined;
}

export type Suggester = (text: string, signal: AbortSignal) => Promise<Suggestions>;

const NONE: Suggestions = { list: [] };

export interface OptionsState extends Suggestions {
  active: number;
  /** Whether the list is visible. */
  isShown: boolean;
  isHinted: boolean;
  isOpen: boolean;
  open(): void;
  /** Shows the suggestions for a whole name too. */
  ask(): void;
  close(): void;
  /** The text was changed by typing. */
  typed(): void;
  take(suggestion: Suggestion): void;
  /** Whether the key was one of the list. */
  press(event: KeyboardEvent): boolean;
  activeOf(id: string): string | undefined;
}

/** The suggestions for the text. `topic` changes when they are about another thing. */
export function useOptions(text: string, suggest: Suggester, choose: (suggestion: Suggestion) => void, topic = ''): OptionsState {
  const [isOpen, setOpen] = useState(false);
  const [{ list, hint }, setFound] = useState(NONE);
  const [active, setActive] = useState(-1);
  const [round, setRound] = useState(0);
  const isAsked = useRef(false);
  const latest = useRef(suggest);
  latest.current = suggest;

  useEffect(() => setFound(NONE), [topic]);
  useEffect(() => {
    if (!isOpen) return undefined;
    const controller = new AbortController();
    latest.current(text, controller.signal).then(
      (found) => {
        if (controller.signal.aborted) return;
        // A whole name is what the user wants; the arrow keys still show the others.
        const isWhole = found.list.some((suggestion) => suggestion.value === text);
        setFound(isWhole && !isAsked.current ? NONE : found);
        setActive(-1);
      },
      (error: unknown) => {
        // Suggestions are not essential: any text may be entered.
        if (!isAbort(error)) setFound(NONE);
      },
    );
    return () => controller.abort();
  }, [text, isOpen, round, topic]);

  const isShown = isOpen && list.length > 0;
  const close = () => {
    isAsked.current = false;
    setOpen(false);
    setActive(-1);
    setFound(NONE);
  };
  const take = (suggestion: Suggestion) => {
    close();
    choose(suggestion);
  };
  const ask = () => {
    isAsked.current = true;
    if (!isShown) setRound((former) => former + 1);
    setOpen(true);
  };
  const move = (step: number) => {
    ask();
    if (isShown) setActive((at) => (at + step + list.length + (at < 0 && step < 0 ? 1 : 0)) % list.length);
  };
  const press = (event: KeyboardEvent) => {
    const suggestion = isShown ? chosen(list, active, text) : undefined;
    if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
      move(event.key === 'ArrowDown' ? 1 : -1);
    } else if (event.key === 'Enter' && suggestion) {
      take(suggestion);
    } else if (event.key === 'Escape' && isOpen && (isShown || hint)) {
      event.stopPropagation();
      close();
    } else {
      return false;
    }
    event.preventDefault();
    return true;
  };
  return {
    list,
    hint,
    active,
    isShown,
    isHinted: isOpen && hint !== undefined,
    isOpen,
    open: () => setOpen(true),
    ask,
    close,
    typed: () => {
      isAsked.current = false;
      setActive(-1);
      setOpen(true);
    },
    take,
    press,
    activeOf: (id) => (isShown && active >= 0 ? `${id}-${active}` : undefined),
  };
}

/** The suggestion that Enter takes: the marked one, or the only one that contains the typed text. */
function chosen(list: Suggestion[], active: number, text: string): Suggestion | undefined {
  if (active >= 0) return list[active];
  const [only] = list;
  const part = text.trim().toLowerCase();
  const isOnly = list.length === 1 && part !== '' && (only?.label ?? only?.value ?? '').toLowerCase().includes(part);
  return isOnly ? only : undefined;
}

export function Options({ id, label, options, style }: { id: string; label: string; options: OptionsState; style?: { left: string; top: string } }) {
  const { list, hint, active, isShown, isHinted, take } = options;
  const current = useRef<HTMLLIElement>(null);
  useEffect(() => current.current?.scrollIntoView({ block: 'nearest' }), [active]);
  const box = useRef<HTMLSpanElement>(null);
  useLayoutEffect(() => {
    if (!box.current) return;
    // The box stays inside the window.
    box.current.style.marginLeft = '0';
    const excess = box.current.getBoundingClientRect().right - document.documentElement.clientWidth + 8;
    if (excess > 0) box.current.style.marginLeft = `${-excess}px`;
  });
  return (
    <span ref={box} class="options" hidden={!isShown && !isHinted} style={style}>
      <ul id={`${id}-list`} role="listbox" aria-label={`Suggestions: ${label}`} hidden={!isShown}>
        {isShown &&
          list.map((suggestion, at) => (
            <li
              id={`${id}-${at}`}
              key={suggestion.value}
              ref={at === active ? current : null}
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
      <small id={`${id}-hint`} class="hint" role="status">
        {isHinted ? hint : ''}
      </small>
    </span>
  );
}
