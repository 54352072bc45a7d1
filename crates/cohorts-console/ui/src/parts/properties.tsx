// Properties of a person or an event: a table, and values of any kind and length.

import type { Json } from '../model/filter';

/** The length of texts that scroll in their cell. */
const LONG = 300;

export function PropertyTable({ rows }: { rows: [string, unknown][] }) {
  return (
    <table class="properties">
      <tbody>
        {rows.map(([key, value]) => (
          <tr key={key}>
            <th scope="row">{key}</th>
            <td>
              <PropertyValue value={value as Json} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function PropertyValue({ value }: { value: Json }) {
  if (value === null) return <span class="faint">null</span>;
  if (value === '') return <span class="faint">(empty)</span>;
  if (typeof value === 'object') return <pre class="code inline" tabIndex={0}>{JSON.stringify(value, null, 2)}</pre>;
  const text = String(value);
  if (text.length > LONG) {
    return (
      <span class="long" tabIndex={0}>
        {text}
      </span>
    );
  }
  return <span class={typeof value === 'number' ? 'tabular' : ''}>{text}</span>;
}
