// Server-sent events as text: complete events of a stream that arrives in pieces of any length.

export interface StreamEvent {
  /** The position after the event; a comment can have one without data. */
  id: string | undefined;
  data: string | undefined;
}

/** Takes the complete events out of `text`, and returns them with the rest. */
export function takeEvents(text: string): { events: StreamEvent[]; rest: string } {
  const events: StreamEvent[] = [];
  // A line ends with CR, LF or both; a CR at the end of a piece may be half of one.
  const end = text.endsWith('\r') ? text.length - 1 : text.length;
  const blocks = text.slice(0, end).replace(/\r\n?/g, '\n').split('\n\n');
  const rest = (blocks.pop() ?? '') + text.slice(end);
  for (const block of blocks) {
    const event = parse(block);
    if (event.id !== undefined || event.data !== undefined) events.push(event);
  }
  return { events, rest };
}

function parse(block: string): StreamEvent {
  let id: string | undefined;
  const data: string[] = [];
  for (const line of block.split('\n')) {
    const at = line.indexOf(':');
    const [name, value] = at < 0 ? [line, ''] : [line.slice(0, at), line.slice(at + 1).replace(/^ /, '')];
    if (name === 'id') id = value;
    if (name === 'data') data.push(value);
  }
  return { id, data: data.length === 0 ? undefined : data.join('\n') };
}
