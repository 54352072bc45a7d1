// Bundles src/ into dist/: the page, and assets with a hash of their content in their names.
//
// node build.mjs             writes ../dist
// node build.mjs --check     reports a difference between ../dist and the result, and writes nothing
// node build.mjs --watch     bundles into a temporary folder on each change, and serves it on port 8170; requests below
//                            /api/ go to COHORTS_URL
import { createServer, request } from 'node:http';
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import * as esbuild from 'esbuild';

const root = fileURLToPath(new URL('.', import.meta.url));
const dist = join(root, '../dist');
const LIMIT = 120 << 10;
/** The policy of the service, for `--watch`. */
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const options = (outdir) => ({
  absWorkingDir: root,
  bundle: true,
  charset: 'utf8',
  entryNames: '[name]-[hash]',
  entryPoints: { console: 'src/main.tsx', style: 'src/styles/main.css', icon: 'src/icon.svg' },
  format: 'esm',
  jsx: 'automatic',
  jsxImportSource: 'preact',
  legalComments: 'none',
  loader: { '.svg': 'copy' },
  logLevel: 'warning',
  metafile: true,
  minify: true,
  outdir: join(outdir, 'assets'),
  target: ['chrome111', 'firefox114', 'safari16.4'],
});

/** The page, with the names of the assets. */
async function page(metafile) {
  const outputs = Object.entries(metafile.outputs);
  const find = (entry) => {
    const [path] = outputs.find(([path, { entryPoint }]) => entryPoint === entry || (entry.endsWith('.svg') && path.endsWith('.svg')));
    return `/assets/${path.split('/').at(-1)}`;
  };
  const html = await readFile(join(root, 'src/index.html'), 'utf8');
  return html
    .replace('{{script}}', find('src/main.tsx'))
    .replace('{{style}}', find('src/styles/main.css'))
    .replace('{{icon}}', find('src/icon.svg'));
}

/** Builds into a folder, which is emptied before. */
async function build(outdir) {
  await rm(outdir, { recursive: true, force: true });
  await mkdir(join(outdir, 'assets'), { recursive: true });
  const { metafile } = await esbuild.build(options(outdir));
  await writeFile(join(outdir, 'index.html'), await page(metafile));
}

/** The files of a folder with their contents. */
async function files(folder) {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const found = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const contents = await Promise.all(found.map((file) => readFile(file)));
  return new Map(found.map((file, at) => [file.slice(folder.length), contents[at]]));
}

async function report(folder) {
  let total = 0;
  for (const [name, content] of await files(folder)) {
    const size = gzipSync(content, { level: 9 }).length;
    total += size;
    console.log(`${String(content.length).padStart(8)} ${String(size).padStart(8)}  ${name}`);
  }
  console.log(`${total} bytes compressed, at most ${LIMIT}`);
  if (total > LIMIT) throw new Error('the console is too large');
}

async function check() {
  const folder = await mkdtemp(join(tmpdir(), 'console-'));
  try {
    await build(folder);
    await report(folder);
    const [expected, actual] = [await files(folder), await files(dist)];
    const names = new Set([...expected.keys(), ...actual.keys()]);
    const different = [...names].filter((name) => !expected.get(name)?.equals(actual.get(name) ?? Buffer.alloc(0)));
    if (different.length > 0) {
      throw new Error(`dist/ is not the result of ui/: ${different.join(', ')}\nRun \`cargo xtask console\`, and commit the result.`);
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Serves the folder; requests to the service go to COHORTS_URL. */
async function watch() {
  const service = new URL(process.env.COHORTS_URL ?? 'http://127.0.0.1:8000');
  const folder = await mkdtemp(join(tmpdir(), 'console-'));
  const rebuild = {
    name: 'page',
    setup: (plugin) => plugin.onEnd(async ({ metafile }) => metafile && writeFile(join(folder, 'index.html'), await page(metafile))),
  };
  const context = await esbuild.context({ ...options(folder), sourcemap: true, plugins: [rebuild] });
  await context.watch();
  const types = { css: 'text/css', js: 'text/javascript', svg: 'image/svg+xml', map: 'application/json' };
  const server = createServer(async (incoming, outgoing) => {
    const { pathname } = new URL(incoming.url, service);
    if (/^\/(api|docs|batch)(\/|$)/.test(pathname)) {
      const headers = { ...incoming.headers, host: service.host };
      const forwarded = request(new URL(incoming.url, service), { method: incoming.method, headers }, (response) => {
        outgoing.writeHead(response.statusCode, response.headers);
        response.pipe(outgoing);
      });
      forwarded.on('error', () => outgoing.destroy());
      outgoing.on('close', () => forwarded.destroy());
      incoming.pipe(forwarded);
      return;
    }
    const isAsset = pathname.startsWith('/assets/');
    const content = await readFile(join(folder, isAsset ? pathname : 'index.html')).catch(() => undefined);
    outgoing.writeHead(content ? 200 : 404, {
      'content-type': isAsset ? (types[pathname.split('.').at(-1)] ?? 'text/plain') : 'text/html; charset=utf-8',
      'cache-control': 'no-store',
      'content-security-policy': POLICY,
    });
    outgoing.end(content);
  });
  const port = Number(process.env.PORT ?? 8170);
  server.listen(port, '127.0.0.1', () => console.log(`http://127.0.0.1:${port}/ with ${service.origin}`));
}

const [mode] = process.argv.slice(2);
if (mode === '--watch') {
  await watch();
} else if (mode === '--check') {
  await check().catch(fail);
} else {
  await build(dist);
  await report(dist).catch(fail);
}

function fail(error) {
  console.error(error.message);
  process.exitCode = 1;
}
