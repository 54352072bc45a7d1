// Export of persons as a file. The key is in a header, so the page reads the response and saves it; it shows the progress,
// and can stop.

import { useRef, useState } from 'preact/hooks';
import { send } from '../api/client';
import type { Query } from '../api/client';
import { explain, isAbort } from '../api/error';
import { notify } from '../parts/dialog';
import { bytes } from '../parts/format';
import { Icon } from '../parts/icons';
import { Menu } from '../parts/menu';

type Format = 'csv' | 'ndjson';

export function Export({ path, query, name, total }: { path: string; query: Query; name: string; total: number }) {
  const [size, setSize] = useState<number>();
  const request = useRef<AbortController | undefined>(undefined);
  const save = async (format: Format) => {
    const controller = new AbortController();
    request.current = controller;
    setSize(0);
    try {
      const options = { query: { ...query, bom: format === 'csv' ? true : undefined }, signal: controller.signal };
      const response = await send(`${path}.${format}`, options);
      const blob = await readAll(response, setSize);
      download(blob, `${fileName(name)}.${format}`);
    } catch (error) {
      if (!isAbort(error)) {
        const { title, detail } = explain(error);
        notify(`The export stopped. ${title}. ${detail}`);
      }
    } finally {
      setSize(undefined);
    }
  };
  if (size !== undefined) {
    return (
      <span class="progress" role="status">
        <span class="spinner" aria-hidden="true" />
        {bytes(size)}
        <button type="button" onClick={() => request.current?.abort()}>
          Stop
        </button>
      </span>
    );
  }
  return (
    <Menu
      isDisabled={total === 0}
      face={
        <>
          <Icon name="download" />
          Export
        </>
      }
    >
      <button type="button" onClick={() => void save('csv')}>
        CSV, for spreadsheets
      </button>
      <button type="button" onClick={() => void save('ndjson')}>
        NDJSON, for programs
      </button>
    </Menu>
  );
}

async function readAll(response: Response, progress: (total: number) => void): Promise<Blob> {
  const type = response.headers.get('content-type') ?? '';
  if (!response.body) return response.blob();
  const reader = response.body.getReader();
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let total = 0;
  let shown = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return new Blob(parts, { type });
    parts.push(value as Uint8Array<ArrayBuffer>);
    total += value.length;
    if (performance.now() - shown > 200) {
      shown = performance.now();
      progress(total);
    }
  }
}

export function download(blob: Blob, name: string): void {
  const address = URL.createObjectURL(blob);
  const link = document.createElement('a');
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** A name without characters that file systems refuse. */
export function fileName(name: string): string {
  const clean = name.replace(/[^\p{L}\p{N} ._-]+/gu, '-').trim();
  return clean.slice(0, 80) || 'cohort';
}
