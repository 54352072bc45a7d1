// The text of a query: names and values are suggested at the caret, and the place of an error is marked.

import type { ComponentChild } from 'preact';
import { useLayoutEffect, useRef, useState } from 'preact/hooks';
import { completionAt } from '../model/query';
import type { Place, Wanted } from '../model/query';
import { Options, useOptions } from '../parts/options';
import type { Suggester } from '../parts/options';
import { suggestEventNames, suggestEventProperties, suggestEventValues, suggestNothing, suggestPersonProperties, suggestPersonValues } from '../state/suggestions';

interface Properties {
  id: string;
  text: string;
  place: Place | undefined;
  isInvalid: boolean;
  area: { current: HTMLTextAreaElement | null };
  change: (text: string) => void;
}

function suggesterOf(wanted: Wanted | undefined): Suggester {
  switch (wanted?.kind) {
    case undefined:
      return suggestNothing;
    case 'event':
      return suggestEventNames;
    case 'property':
      return wanted.of === 'person' ? suggestPersonProperties : suggestEventProperties(wanted.event);
    case 'value':
      return wanted.of === 'person' ? suggestPersonValues(wanted.key) : suggestEventValues(wanted.key, wanted.event);
  }
}

export function QueryField({ id, text, place, isInvalid, area, change }: Properties) {
  const [caret, setCaret] = useState(0);
  const [scrolled, setScrolled] = useState(0);
  const nextCaret = useRef<number | undefined>(undefined);
  const completion = completionAt(text, caret);
  const options = useOptions(
    completion?.typed ?? '',
    suggesterOf(completion?.wanted),
    ({ value }) => {
      const next = completion?.insert(value);
      if (!next) return;
      nextCaret.current = next.caret;
      change(next.text);
    },
    completion && JSON.stringify([completion.wanted, completion.from]),
  );
  useLayoutEffect(() => {
    const at = nextCaret.current;
    if (at === undefined) return;
    nextCaret.current = undefined;
    area.current?.setSelectionRange(at, at);
    setCaret(at);
  }, [text]);
  const follow = ({ currentTarget: { selectionStart } }: { currentTarget: HTMLTextAreaElement }) => {
    if (selectionStart === caret) return;
    setCaret(selectionStart);
    options.close();
  };
  const press = (event: KeyboardEvent) => {
    const isForList = options.isShown || event.key === 'Escape' || (event.altKey && event.key === 'ArrowDown');
    if (isForList && completion) options.press(event);
  };
  return (
    <span class="query-field">
      <Mistake text={text} place={place} scrolled={scrolled} />
      <textarea
        id={id}
        ref={area}
        class="code"
        rows={Math.min(Math.max(text.split('\n').length + 2, 8), 24)}
        spellcheck={false}
        aria-autocomplete="list"
        aria-haspopup="listbox"
        aria-controls={`${id}-list`}
        aria-activedescendant={options.activeOf(id)}
        aria-describedby={`${id}-hint`}
        aria-invalid={isInvalid ? 'true' : undefined}
        value={text}
        onInput={(event) => {
          setCaret(event.currentTarget.selectionStart);
          options.typed();
          change(event.currentTarget.value);
        }}
        onKeyDown={press}
        onKeyUp={follow}
        onClick={follow}
        onFocus={follow}
        onBlur={options.close}
        onScroll={(event) => setScrolled(event.currentTarget.scrollTop)}
      />
      <AtText text={text} at={completion?.from ?? 0} scrolled={scrolled}>
        {(style) => <Options id={id} label="Query" options={options} style={style} />}
      </AtText>
    </span>
  );
}

/** The same text behind the field, with a mark. */
function Mistake({ text, place, scrolled }: { text: string; place: Place | undefined; scrolled: number }) {
  const layer = useRef<HTMLPreElement>(null);
  useLayoutEffect(() => {
    if (layer.current) layer.current.scrollTop = scrolled;
  }, [text, place?.from, scrolled]);
  // The end of the text has no character to mark.
  return (
    <pre ref={layer} class="code mirror" aria-hidden="true">
      {place ? text.slice(0, place.from) : text}
      {place && <span class="mistake">{text.slice(place.from, place.to) || ' '}</span>}
      {place && text.slice(place.to)}
      {'\n'}
    </pre>
  );
}

/** Puts its content below the line of an offset of the text. */
function AtText({ text, at, scrolled, children }: { text: string; at: number; scrolled: number; children: (style: { left: string; top: string }) => ComponentChild }) {
  const layer = useRef<HTMLPreElement>(null);
  const spot = useRef<HTMLSpanElement>(null);
  const [[left, top], setSpot] = useState([0, 0]);
  useLayoutEffect(() => {
    if (!spot.current || !layer.current) return;
    const { offsetLeft, offsetTop, offsetHeight } = spot.current;
    setSpot([Math.max(0, Math.min(offsetLeft, layer.current.clientWidth - 240)), offsetTop + offsetHeight - scrolled + 3]);
  }, [text, at, scrolled]);
  return (
    <>
      <pre ref={layer} class="code mirror unseen" aria-hidden="true">
        {text.slice(0, at)}
        <span ref={spot}>{'\u200B'}</span>
        {text.slice(at)}
      </pre>
      {children({ left: `${left}px`, top: `${top}px` })}
    </>
  );
}
