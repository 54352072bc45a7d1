// Server-sent events: the same events, wherever the stream is cut.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { takeEvents } from '../../src/model/events';
import type { StreamEvent } from '../../src/model/events';

function read(pieces: string[]): StreamEvent[] {
  let rest = '';
  return pieces.flatMap((piece) => {
    const taken = takeEvents(rest + piece);
    rest = taken.rest;
    return taken.events;
  });
}

test('a comment may have a position, and an event has data', () => {
  const events = read([': begin\nid: a\n\n: only a comment\n\nid: b\nevent: entered\ndata: {"x":1}\n\nid: c\nevent: left\nda']);
  assert.deepEqual(events, [
    { id: 'a', data: undefined },
    { id: 'b', data: '{"x":1}' },
  ]);
});

test('the cuts of a stream do not matter', () => {
  const ending = fc.constantFrom('\n', '\r\n');
  const event = fc.record({ id: fc.stringMatching(/^[A-Za-z0-9]{1,8}$/), data: fc.string({ unit: 'grapheme' }).map((text) => JSON.stringify(text)) });
  fc.assert(
    fc.property(fc.array(event), ending, fc.array(fc.nat()), (events, line, cuts) => {
      const text = events.map(({ id, data }) => `id: ${id}${line}event: left${line}data: ${data}${line}${line}`).join('');
      const places = [0, ...cuts.map((cut) => cut % (text.length + 1)), text.length].sort((a, b) => a - b);
      const pieces = places.slice(1).map((place, at) => text.slice(places[at], place));
      assert.deepEqual(read(pieces), events.map((one) => ({ ...one })));
    }),
  );
});
