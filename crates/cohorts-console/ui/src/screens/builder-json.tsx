// The JSON of the criteria, editable next to the sentences, and a request for the command line.

import { useLayoutEffect, useRef, useState } from 'preact/hooks';
import { FilterError, read, write } from '../model/filter';
import type { Group, Json } from '../model/filter';
import { CopyButton } from '../parts/field';
import { api } from '../state/session';

export function JsonEditor({ root, change }: { root: Group; change: (root: Group) => void }) {
  const json = JSON.stringify(write(root).filters, null, 2);
  const [text, setText] = useState(json);
  const [problem, setProblem] = useState<string>();
  const own = useRef(json);
  useLayoutEffect(() => {
    // The sentences changed, and not this text.
    if (json !== own.current) {
      own.current = json;
      setText(json);
      setProblem(undefined);
    }
  }, [json]);
  const edit = (value: string) => {
    setText(value);
    try {
      const next = read(JSON.parse(value) as Json);
      own.current = JSON.stringify(write(next).filters, null, 2);
      setProblem(undefined);
      change(next);
    } catch (error) {
      setProblem(error instanceof FilterError ? error.message : `This is not JSON: ${(error as Error).message}`);
    }
  };
  return (
    <details class="json">
      <summary>As JSON, and as a request</summary>
      <div class="toolbar">
        <CopyButton text={() => json} words="Copy JSON" />
        <CopyButton text={() => curl(json)} words="Copy curl" />
      </div>
      <textarea
        class="code"
        aria-label="Criteria as JSON"
        rows={Math.min(Math.max(text.split('\n').length + 1, 8), 28)}
        spellcheck={false}
        aria-invalid={problem ? 'true' : undefined}
        value={text}
        onInput={(event) => edit(event.currentTarget.value)}
      />
      {problem && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
    </details>
  );
}

/** A request that counts the criteria. The key is a variable, so that it stays out of histories. */
function curl(json: string): string {
  const body = JSON.stringify({ filters: JSON.parse(json) as Json }).replaceAll("'", "'\\''");
  return `curl -H "Authorization: Bearer $COHORTS_KEY" -H 'Content-Type: application/json' \\\n  '${location.origin}${api('cohorts/preview/')}' \\\n  -d '${body}'`;
}
