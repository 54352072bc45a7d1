// How long a reader waits, in a real browser: the first view, the count after a key in the builder, and the frames while a
// table scrolls from its first to its last row.
//
// COHORTS_URL=… COHORTS_KEY=… node measure.mjs
//
// The key needs the scopes cohort:read, person:read, event_definition:read, property_definition:read and project:read.
// Nothing is written, and nothing is compared with a goal: machines differ. All times are those of the page's own clock.
import { chromium } from '@playwright/test';

const [URL_OF_SERVICE, KEY] = ['COHORTS_URL', 'COHORTS_KEY'].map((name) => {
  if (!process.env[name]) throw new Error(`set ${name} to that of a running service`);
  return process.env[name].replace(/\/$/, '');
});
const VISITS = 20;
/** Keys of a criterion, typed one after another; each waits for its count. */
const LETTERS = 'example';
const DIGITS = '123456789';
/** The longest wait for one answer. */
const LONGEST = 60_000;
/** The milliseconds in which the whole table is scrolled. */
const SCROLL = 10_000;
/** Turns of a mouse wheel, and the pixels of each. */
const [TURNS, TURN] = [100, 360];

const api = async (path) => {
  const response = await fetch(`${URL_OF_SERVICE}/api/projects/${path}`, { headers: { authorization: `Bearer ${KEY}` } });
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return response.json();
};
const ms = (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;

/** The median, nine in ten, and the largest. */
function summary(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (part) => ms(sorted[Math.min(Math.floor(sorted.length * part), sorted.length - 1)]);
  return `median ${at(0.5)}, nine in ten within ${at(0.9)}, at most ${ms(sorted.at(-1))}`;
}

const print = (words, text) => console.log(`${words.padEnd(44)} ${text}`);

const browser = await chromium.launch({
  executablePath: process.env.COHORTS_TEST_CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-dev-shm-usage'],
});

/** A page of a browser without stored files, that is signed in. */
async function newPage() {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, baseURL: URL_OF_SERVICE });
  const page = await context.newPage();
  await page.addInitScript((key) => sessionStorage.setItem('cohorts.key', key), KEY);
  return page;
}

/** Runs in the page: notes when the first row of the cohorts is on the screen. */
function noteFirstRow() {
  const afterPaint = (act) => requestAnimationFrame(() => setTimeout(act));
  const look = () => {
    if (document.querySelector('table.cohorts tbody tr')) afterPaint(() => (window.firstRow = performance.now()));
    else requestAnimationFrame(look);
  };
  look();
}

async function firstView() {
  const times = { empty: { paint: [], rows: [] }, stored: { paint: [], rows: [] } };
  const visit = async (page, { paint, rows }) => {
    await page.goto('/cohorts');
    await page.waitForFunction(() => window.firstRow);
    const [painted, row] = await page.evaluate(() => [performance.getEntriesByName('first-contentful-paint')[0].startTime, window.firstRow]);
    paint.push(painted);
    rows.push(row);
  };
  for (let at = 0; at < VISITS; at += 1) {
    const page = await newPage();
    await page.addInitScript(noteFirstRow);
    await visit(page, times.empty);
    await visit(page, times.stored);
    await page.context().close();
  }
  print('navigation to first paint, empty cache', summary(times.empty.paint));
  print('navigation to the list of cohorts, empty cache', summary(times.empty.rows));
  print('navigation to first paint, second visit', summary(times.stored.paint));
  print('navigation to the list of cohorts, second visit', summary(times.stored.rows));
}

/** Runs in the page: notes the time of the last key, and when the count of the builder after it is on the screen. */
function noteCounts() {
  addEventListener('keydown', ({ timeStamp }) => ([window.pressed, window.counted] = [timeStamp, 0]), true);
  const total = document.querySelector('[data-testid=total]');
  const isPending = (text) => text.split(' ').includes('pending');
  new MutationObserver((records) => {
    if (!records.some(({ oldValue }) => isPending(oldValue ?? '')) || isPending(total.className)) return;
    requestAnimationFrame(() => setTimeout(() => (window.counted = performance.now())));
  }).observe(total, { attributeFilter: ['class'], attributeOldValue: true });
}

/** Types keys, and returns the times from each key to its count. */
async function type(page, field, keys) {
  const times = [];
  await field.focus();
  for (const key of keys) {
    await page.keyboard.press(key);
    await page.waitForFunction(() => window.counted > window.pressed, undefined, { timeout: LONGEST });
    times.push(await page.evaluate(() => window.counted - window.pressed));
  }
  return times;
}

async function propertyCounts(project) {
  const { results } = await api(`${project}/property_definitions/?type=person&limit=100`);
  const property = results.find(({ name }) => name === 'email') ?? results[0];
  if (!property) return;
  const page = await newPage();
  await page.goto('/cohorts/new');
  await page.getByRole('button', { name: 'Property', exact: true }).click();
  await page.getByRole('combobox', { name: 'Property' }).fill(property.name);
  await page.getByLabel('Comparison').selectOption('icontains');
  await page.evaluate(noteCounts);
  print(`key to count, ${property.name} contains …`, summary(await type(page, page.getByRole('combobox', { name: 'Value' }), LETTERS)));
  await page.context().close();
}

async function eventCounts(project) {
  const [event] = (await api(`${project}/event_definitions/?limit=1`)).results;
  if (!event) return;
  const page = await newPage();
  await page.goto('/cohorts/new');
  await page.getByRole('button', { name: 'Event', exact: true }).click();
  await page.getByRole('combobox', { name: 'Event' }).fill(event.name);
  await page.locator('[data-testid=total]:not(.pending)').getByText(/\d/).waitFor({ timeout: LONGEST });
  await page.evaluate(noteCounts);
  const days = page.getByRole('spinbutton', { name: 'Time window' });
  const times = [];
  for (const digit of DIGITS) {
    await days.selectText();
    times.push(...(await type(page, days, digit)));
  }
  print(`key to count, did ${event.name} in the last …`, summary(times));
  await page.context().close();
}

/** Runs in the page: notes each frame and each long task, until `stopFrames` is called. */
function noteFrames() {
  const [frames, tasks] = [[], []];
  let isRunning = true;
  let last;
  const observer = new PerformanceObserver((list) => tasks.push(...list.getEntries().map(({ duration }) => duration)));
  observer.observe({ entryTypes: ['longtask'] });
  const frame = (time) => {
    if (last !== undefined) frames.push(time - last);
    last = time;
    if (isRunning) requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
  window.stopFrames = () => {
    isRunning = false;
    observer.disconnect();
    return { frames, tasks };
  };
}

/** Runs in the page: moves the scroll bar from the top to the end. */
function scrollToEnd(duration) {
  const table = document.querySelector('.big-table');
  const range = table.scrollHeight - table.clientHeight;
  const begun = performance.now();
  return new Promise((resolve) => {
    const step = (time) => {
      const part = Math.min((time - begun) / duration, 1);
      table.scrollTop = part * range;
      if (part < 1) requestAnimationFrame(step);
      else resolve();
    };
    requestAnimationFrame(step);
  });
}

function printFrames(words, { frames, tasks }) {
  print(`${words}: frames`, `${frames.length}, ${summary(frames)}`);
  print(`${words}: tasks above 50 ms`, tasks.length === 0 ? 'none' : `${tasks.length}, the longest ${ms(Math.max(...tasks))}`);
}

async function scrolling(project) {
  const { results } = await api(`${project}/cohorts/?limit=500`);
  const cohort = results.toSorted((a, b) => (b.count ?? 0) - (a.count ?? 0))[0];
  if (!cohort?.count) {
    print('scrolling', 'no cohort has members');
    return;
  }
  const page = await newPage();
  await page.goto(`/cohorts/${cohort.id}`);
  await page.locator('.big-row:not(.head, .waiting)').first().waitFor();
  print('the largest cohort', `${cohort.count.toLocaleString('en')} persons`);
  await page.locator('.big-table').hover();
  await page.evaluate(noteFrames);
  for (let turn = 0; turn < TURNS; turn += 1) await page.mouse.wheel(0, TURN);
  await page.locator('.big-row:not(.head, .waiting)').first().waitFor();
  printFrames(`mouse wheel, ${TURNS * TURN} px`, await page.evaluate(() => window.stopFrames()));
  await page.evaluate(noteFrames);
  await page.evaluate(scrollToEnd, SCROLL);
  const begun = Date.now();
  await page.locator(`.big-row[aria-rowindex="${cohort.count + 1}"]:not(.waiting)`).waitFor({ timeout: LONGEST });
  printFrames(`top to end in ${SCROLL / 1_000} s`, await page.evaluate(() => window.stopFrames()));
  print('end of scrolling to the last row, about', ms(Date.now() - begun));
  await page.context().close();
}

try {
  const [project] = (await api('')).results;
  print('service', `${URL_OF_SERVICE}, project ${project.name}`);
  print('browser', `Chromium ${browser.version()}, 1280 × 800`);
  await firstView();
  await propertyCounts(project.id);
  await eventCounts(project.id);
  await scrolling(project.id);
} finally {
  await browser.close();
}
