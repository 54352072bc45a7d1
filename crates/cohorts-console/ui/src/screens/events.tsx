// The latest events of a person, with their properties, and older ones on request.

import { useEffect, useRef, useState } from 'preact/hooks';
import { isAbort } from '../api/error';
import { people } from '../api/resources';
import type { PersonEvent, PersonEventPage } from '../api/types';
import { cursorOf } from '../model/pages';
import { Time, plural } from '../parts/format';
import { Icon } from '../parts/icons';
import { useLoad } from '../parts/load';
import { PropertyTable } from '../parts/properties';
import { Empty, Failure, Loading, Show } from '../parts/state';

const FIRST = 20;
const MORE = 50;

/** Events with different names or distinct ids can have the same id. */
const keyOf = ({ id, event, distinct_id: distinct }: PersonEvent) => JSON.stringify([id, event, distinct]);

export function LatestEvents({ person }: { person: string }) {
  const loaded = useLoad((signal) => people.events(person, { limit: FIRST }, signal), [person]);
  return (
    <section aria-labelledby="latest-events">
      <h2 id="latest-events">Latest events</h2>
      <Show loaded={loaded} what="the events">
        {(first) =>
          first.results.length === 0 && first.next === null ? (
            <Empty title="No events">
              <p>The person has no events. They appear here when an SDK or an import sends them.</p>
            </Empty>
          ) : (
            <EventPages person={person} first={first} />
          )
        }
      </Show>
    </section>
  );
}

function EventPages({ person, first }: { person: string; first: PersonEventPage }) {
  const [older, setOlder] = useState<PersonEventPage[]>([]);
  const [isLoading, setLoading] = useState(false);
  const [failure, setFailure] = useState<unknown>();
  const controller = useRef(new AbortController());
  useEffect(() => () => controller.current.abort(), []);
  const events = [first, ...older].flatMap(({ results }) => results);
  const cursor = cursorOf((older.at(-1) ?? first).next);
  const load = async () => {
    setLoading(true);
    setFailure(undefined);
    try {
      const page = await people.events(person, { limit: MORE, cursor }, controller.current.signal);
      setOlder([...older, page]);
    } catch (error) {
      if (!isAbort(error)) setFailure(error);
    }
    setLoading(false);
  };
  return (
    <>
      <ol class="events">
        {events.map((event) => (
          <li key={keyOf(event)}>
            <EventRow event={event} />
          </li>
        ))}
      </ol>
      {failure !== undefined && <Failure error={failure} retry={() => void load()} />}
      {isLoading && <Loading what="older events" />}
      {!isLoading && failure === undefined && cursor !== undefined && (
        <button type="button" class="older" onClick={() => void load()}>
          Older events
        </button>
      )}
      <p class="faint" role="status">
        {cursor === undefined ? `${plural(events.length, 'event')} in all` : `The latest ${plural(events.length, 'event')}`}
      </p>
    </>
  );
}

/** The properties are in the page only while they are open, because they can be large. */
function EventRow({ event }: { event: PersonEvent }) {
  const [isOpen, setOpen] = useState(false);
  const properties = Object.entries(event.properties).sort(([a], [b]) => a.localeCompare(b));
  return (
    <details onToggle={({ currentTarget }) => setOpen(currentTarget.open)}>
      <summary>
        <Icon name="down" />
        <Time value={event.timestamp} hasSeconds />
        <span class="name">{event.event}</span>
      </summary>
      {isOpen && (
        <>
          <p class="faint">
            Sent with the distinct id <code>{event.distinct_id}</code>
          </p>
          {properties.length === 0 ? <p class="faint">No properties</p> : <PropertyTable rows={properties} />}
        </>
      )}
    </details>
  );
}
