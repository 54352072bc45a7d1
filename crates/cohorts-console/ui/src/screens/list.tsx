// A list from a file: drop it, check what each column means and the first rows, upload it with progress, and see what
// became of each row. The file stays in this tab until it is uploaded.

import { useEffect, useRef, useState } from 'preact/hooks';
import { cohorts } from '../api/resources';
import { api } from '../state/session';
import { currentKey } from '../api/client';
import { ApiError, ConnectionError } from '../api/error';
import type { Cohort, Upload } from '../api/types';
import { detect, onlyColumn, parse, writeRow } from '../model/csv';
import type { Meaning, Table } from '../model/csv';
import { Field, Select } from '../parts/field';
import { bytes, number, plural } from '../parts/format';
import { Icon } from '../parts/icons';
import { useLoad } from '../parts/load';
import { Failure, useTitle } from '../parts/state';
import { loadCatalogue } from '../state/catalogue';
import { href, place } from '../state/router';
import { MOST_NAME } from './details';
import { download, fileName } from './export';

const PREVIEW_ROWS = 8;
/** The part of a file that is read for the preview. */
const PREVIEW_BYTES = 256 << 10;
const MEANINGS = [
  { value: '', words: 'not used' },
  { value: 'distinct_id', words: 'distinct id' },
  { value: 'email', words: 'e-mail address' },
  { value: 'person_id', words: 'person id' },
];

interface Chosen {
  file: File;
  table: Table;
  column: number | undefined;
  meaning: Meaning | undefined;
  /** What the service would choose by itself. */
  detected: ReturnType<typeof detect>;
}

async function choose(file: File): Promise<Chosen> {
  const bytes = new Uint8Array(await file.slice(0, PREVIEW_BYTES).arrayBuffer());
  const table = parse(decode(bytes), PREVIEW_ROWS);
  const detected = detect(table);
  return { file, table: { ...table, rows: table.rows.slice(0, PREVIEW_ROWS) }, column: detected?.column, meaning: detected?.meaning, detected };
}

/** UTF-8, or UTF-16 with a byte order mark, as in the service. */
function decode(bytes: Uint8Array): string {
  const encoding = bytes[0] === 0xff && bytes[1] === 0xfe ? 'utf-16le' : bytes[0] === 0xfe && bytes[1] === 0xff ? 'utf-16be' : 'utf-8';
  return new TextDecoder(encoding).decode(bytes);
}

export function ListScreen() {
  useTitle('List from a file');
  const into = Number(place.value.hidden.get('into')) || undefined;
  const target = useLoad(async (signal) => (into ? cohorts.get(into, signal) : undefined), [into]);
  const [chosen, setChosen] = useState<Chosen>();
  const [name, setName] = useState('');
  const [options, setOptions] = useState({ create_people: false, replace_members: false });
  const [progress, setProgress] = useState<number>();
  const [failure, setFailure] = useState<unknown>();
  const [result, setResult] = useState<Cohort>();
  const request = useRef<XMLHttpRequest | undefined>(undefined);
  useEffect(() => () => request.current?.abort(), []);

  const take = async (file: File | undefined) => {
    if (!file) return;
    setFailure(undefined);
    setResult(undefined);
    try {
      setChosen(await choose(file));
      if (name === '') setName(file.name.replace(/\.[^.]*$/, ''));
    } catch (error) {
      setFailure(error);
    }
  };
  const upload = async (event: Event) => {
    event.preventDefault();
    if (!chosen) return;
    setFailure(undefined);
    setProgress(0);
    try {
      const form = new FormData();
      if (!into) {
        form.append('name', name.trim());
        form.append('is_static', 'true');
      }
      for (const [option, value] of Object.entries(options)) if (value) form.append(option, 'true');
      form.append('csv', await content(chosen), chosen.file.name);
      const path = into ? `cohorts/${into}/` : 'cohorts/';
      setResult(await sendFile(api(path), into ? 'PATCH' : 'POST', form, setProgress, request));
      void loadCatalogue();
    } catch (error) {
      setFailure(error);
    } finally {
      setProgress(undefined);
    }
  };
  return (
    <form class="screen narrow" onSubmit={upload}>
      <nav class="crumbs" aria-label="Path">
        <a href={href(into ? `/cohorts/${into}` : '/cohorts')}>
          <Icon name="back" />
          {into ? (target.data?.name ?? 'The list') : 'Cohorts'}
        </a>
      </nav>
      <header class="title">
        <div class="heading">
          <h1>{into ? `Upload to ${target.data?.name ?? 'the list'}` : 'List from a file'}</h1>
          <p class="lead">A file with one person per row: a distinct id, an e-mail address or a person id.</p>
        </div>
      </header>
      {result?.upload ? (
        <Outcome cohort={result} upload={result.upload} chosen={chosen} again={() => setResult(undefined)} />
      ) : (
        <>
          <DropZone take={(file) => void take(file)} file={chosen?.file} />
          {chosen && (
            <>
              <FilePreview chosen={chosen} change={setChosen} />
              {!into && (
                <Field label="Name of the list">
                  {(id) => <input id={id} value={name} maxLength={MOST_NAME} onInput={(event) => setName(event.currentTarget.value)} />}
                </Field>
              )}
              <fieldset class="checks">
                <legend>Options</legend>
                <label>
                  <input type="checkbox" checked={options.create_people} onChange={(event) => setOptions({ ...options, create_people: event.currentTarget.checked })} />
                  Create a person for each distinct id and e-mail address that is unknown
                </label>
                {into && (
                  <label>
                    <input type="checkbox" checked={options.replace_members} onChange={(event) => setOptions({ ...options, replace_members: event.currentTarget.checked })} />
                    Remove the members that are not in the file
                  </label>
                )}
              </fieldset>
            </>
          )}
          {failure !== undefined && <Failure error={failure} />}
          {progress === undefined ? (
            <div class="toolbar">
              <button type="submit" class="primary" disabled={!chosen || chosen.meaning === undefined}>
                Upload
              </button>
              {chosen && chosen.meaning === undefined && <span class="problem">Choose the column that identifies the persons.</span>}
            </div>
          ) : (
            <div class="upload-progress" role="status">
              <progress max={1} value={progress < 1 ? progress : undefined} aria-label="Upload" />
              <span>{progress < 1 ? `${Math.round(progress * 100)} % uploaded` : 'Storing the members …'}</span>
              <button type="button" onClick={() => request.current?.abort()}>
                Stop
              </button>
            </div>
          )}
        </>
      )}
    </form>
  );
}

/** The file; with another meaning than the detected one, only the chosen column under the right name. */
async function content({ file, column, meaning, detected }: Chosen): Promise<Blob> {
  if (column === undefined || meaning === undefined || (detected?.column === column && detected.meaning === meaning)) return file;
  const table = parse(decode(new Uint8Array(await file.arrayBuffer())));
  return new Blob([onlyColumn(table, column, meaning)], { type: 'text/csv' });
}

/** Sends a form. Only this kind of request reports the progress of an upload. */
function sendFile(path: string, method: string, form: FormData, progress: (part: number) => void, current: { current: XMLHttpRequest | undefined }): Promise<Cohort> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    current.current = request;
    request.open(method, path);
    request.setRequestHeader('authorization', `Bearer ${currentKey()}`);
    request.responseType = 'json';
    request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    request.upload.onload = () => progress(1);
    request.onerror = () => reject(new ConnectionError('the connection failed'));
    request.onabort = () => reject(new Error('The upload was stopped. Nothing was stored, unless all of the file had arrived.'));
    request.onload = () => {
      if (request.status < 300) {
        resolve(request.response as Cohort);
        return;
      }
      const { code = 'error', detail = `The service answered with the status ${request.status}.`, attr = null } = request.response ?? {};
      reject(new ApiError(request.status, code, detail, attr, Number(request.getResponseHeader('retry-after')) || undefined));
    };
    request.send(form);
  });
}

function DropZone({ take, file }: { take: (file: File | undefined) => void; file: File | undefined }) {
  const [isOver, setOver] = useState(false);
  const hold = (event: DragEvent) => {
    event.preventDefault();
    setOver(event.type === 'dragover');
  };
  return (
    <label
      class={isOver ? 'drop over' : 'drop'}
      onDragOver={hold}
      onDragLeave={hold}
      onDrop={(event) => {
        hold(event);
        take(event.dataTransfer?.files[0]);
      }}
    >
      <Icon name="file" />
      <span>
        {file ? (
          <>
            <b>{file.name}</b> · {bytes(file.size)}
            <small>Drop or choose another file</small>
          </>
        ) : (
          <>
            <b>Drop a CSV file here</b>, or choose one
          </>
        )}
      </span>
      <input type="file" class="visually-hidden" accept=".csv,.tsv,.txt,text/csv,text/plain,text/tab-separated-values" onChange={(event) => take(event.currentTarget.files?.[0])} />
    </label>
  );
}

const DELIMITER_WORDS: Record<string, string> = { ',': 'commas', ';': 'semicolons', '\t': 'tabs', '|': 'bars' };

function FilePreview({ chosen, change }: { chosen: Chosen; change: (chosen: Chosen) => void }) {
  const { table, column, meaning } = chosen;
  const columns = table.header.length > 0 ? table.header : ['(no header)'];
  const set = (at: number, value: string) => {
    const next = value === '' ? undefined : (value as Meaning);
    if (next === undefined && at !== column) return;
    change({ ...chosen, column: next === undefined ? undefined : at, meaning: next });
  };
  return (
    <section>
      <h2>What the columns mean</h2>
      <p class="faint">
        {plural(columns.length, 'column')}, separated by {DELIMITER_WORDS[table.delimiter] ?? table.delimiter}; the first rows of the file. One column identifies the persons.
      </p>
      <div class="scroll-x" tabIndex={0} role="region" aria-label="The first rows of the file">
        <table class="preview">
          <thead>
            <tr>
              {columns.map((title, at) => (
                <th key={`${at} ${title}`} class={at === column ? 'used' : ''}>
                  <span>{title}</span>
                  <Select label={`Meaning of ${title}`} value={at === column ? (meaning ?? '') : ''} choices={MEANINGS} change={(value) => set(at, value)} />
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {table.rows.map((row, at) => (
              <tr key={at}>
                {columns.map((_, index) => (
                  <td key={index} class={index === column ? 'used' : ''}>
                    {row[index] ?? ''}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function Outcome({ cohort, upload, chosen, again }: { cohort: Cohort; upload: Upload; chosen: Chosen | undefined; again: () => void }) {
  const facts: [string, number][] = [
    ['rows', upload.rows],
    ['added', upload.added],
    ['members before, or repeated', upload.already_members],
    ['unknown', upload.unknown],
    ['bad', upload.bad_rows],
    ['created', upload.created_people],
    ['removed', upload.removed],
  ];
  const saveProblems = async () => {
    if (!chosen) return;
    const table = parse(decode(new Uint8Array(await chosen.file.arrayBuffer())));
    const header = table.header.length > 0 ? table.header : ['id'];
    const byLine = new Map(table.lines.map((line, at) => [line, table.rows[at] ?? []]));
    const isWhole = chosen.detected?.column === chosen.column && chosen.detected?.meaning === chosen.meaning;
    // After a change of the meaning, the service saw one line per row, after the header.
    const rowAt = (line: number) => (isWhole ? byLine.get(line) : table.rows[line - 2]) ?? [];
    const rows = upload.problems.map(({ line, id, reason }) => writeRow([...padded(rowAt(line), header.length, id), reason]));
    download(new Blob([writeRow([...header, 'problem']), ...rows], { type: 'text/csv' }), `${fileName(chosen.file.name.replace(/\.[^.]*$/, ''))}-to-correct.csv`);
  };
  return (
    <section>
      <div class="panel result-panel" role="status">
        <h2>{upload.added === 0 ? 'No person was added' : `${plural(upload.added, 'person')} added`}</h2>
        <dl class="facts">
          {facts
            .filter(([words, value]) => value > 0 || words === 'rows' || words === 'added')
            .map(([words, value]) => (
              <div key={words}>
                <dt>{words}</dt>
                <dd class="size">{number(value)}</dd>
              </div>
            ))}
        </dl>
        <div class="toolbar">
          <a class="button primary" href={href(`/cohorts/${cohort.id}`)}>
            Show the list
          </a>
          <button type="button" onClick={again}>
            Upload another file
          </button>
        </div>
      </div>
      {upload.problems.length > 0 && (
        <>
          <div class="toolbar">
            <h2>Rows to correct</h2>
            <span class="grow" />
            <button type="button" onClick={() => void saveProblems()}>
              <Icon name="download" />
              As a file
            </button>
          </div>
          <table class="problems">
            <thead>
              <tr>
                <th class="number">Line</th>
                <th>Id</th>
                <th>Problem</th>
              </tr>
            </thead>
            <tbody>
              {upload.problems.map((problem) => (
                <tr key={problem.line}>
                  <td class="number">{number(problem.line)}</td>
                  <td>{problem.id || <span class="faint">empty</span>}</td>
                  <td>{problem.reason}</td>
                </tr>
              ))}
            </tbody>
          </table>
          {upload.problems_left_out > 0 && <p class="faint">and {plural(upload.problems_left_out, 'more row')}. The service lists the first 100.</p>}
        </>
      )}
    </section>
  );
}

function padded(row: string[], length: number, id: string): string[] {
  const cells = row.length > 0 ? row : [id];
  return Array.from({ length }, (_, at) => cells[at] ?? '');
}
