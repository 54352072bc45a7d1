// The latest events of a person: their order and their properties, older ones, and the states without data.

import type { Page } from '@playwright/test';
import { expect, test } from './console';
import type { Api } from './console';

const MINUTE = 60_000;
const error = (code: string, detail: string) => ({ type: 'x', code, detail, attr: null });

/** A new person with events, one a minute; some have the same time. Returns the id of the person. */
async function withEvents(api: Api, id: string, count: number): Promise<string> {
  const event = (at: number) => ({
    event: `step ${at}`,
    distinct_id: id,
    timestamp: new Date(Date.UTC(2026, 2, 1, 12) + Math.floor(at / 3) * MINUTE).toISOString(),
    uuid: `0190a1b2-c3d4-7e5f-8a9b-${String(at).padStart(12, '0')}`,
    properties: { step: at, nested: { list: [at] }, note: '' },
  });
  await api.capture(...Array.from({ length: count }, (_, at) => event(at)));
  const { results } = await api.call('GET', `persons/?distinct_id=${id}`);
  return results[0].id;
}

const names = (page: Page) => page.locator('.events .name').allTextContents();
/** The names of the newest `shown` events of `count`. */
const newest = (count: number, shown: number) => Array.from({ length: shown }, (_, at) => `step ${count - 1 - at}`);
const events = (page: Page) => page.getByRole('region', { name: 'Latest events' });

test.describe('in another zone', () => {
  test.use({ timezoneId: 'Asia/Kolkata' });

  test('the latest events come first, with their properties, and older ones on request', async ({ console: page, api }) => {
    const person = await withEvents(api, 'events-many', 25);
    await page.goto(`/people#id=${person}`);
    await expect(events(page).getByText('The latest 20 events')).toBeVisible();
    expect(await names(page)).toEqual(newest(25, 20));
    const last = events(page).locator('details').first();
    await expect(last.locator('time')).toHaveText('1 Mar 2026, 17:38:00');
    await expect(last.getByRole('rowheader')).toHaveCount(0);
    await last.locator('summary').focus();
    await page.keyboard.press('Enter');
    await expect(last.getByRole('row', { name: 'step 24', exact: true })).toBeVisible();
    await expect(last.getByRole('row')).toHaveCount(3);
    await expect(last.getByText('events-many')).toBeVisible();
    await events(page).getByRole('button', { name: 'Older events' }).click();
    await expect(events(page).getByText('25 events in all')).toBeVisible();
    expect(await names(page)).toEqual(newest(25, 25));
    await expect(events(page).getByRole('button', { name: 'Older events' })).toHaveCount(0);
    // The opened event stays open.
    await expect(last.getByRole('row')).toHaveCount(3);
  });
});

test('a person without events, a missing scope and an error are explained', async ({ console: page, api, expected }) => {
  expected.push(/status of (403|500)/);
  const person = await withEvents(api, 'events-few', 1);
  const answers = [
    { status: 403, json: error('permission_denied', "API key missing required scope 'person:read'") },
    { status: 500, json: error('error', 'A server error occurred.') },
    { status: 200, json: { next: null, results: [] } },
  ];
  await page.route('**/events/?*', (route) => route.fulfill(answers[0] ?? {}));
  await page.goto(`/people#id=${person}`);
  await expect(events(page).getByRole('alert')).toContainText('The key lacks the scope person:read');
  await expect(events(page).getByRole('button')).toHaveCount(0);
  // The rest of the screen is there.
  await expect(page.getByRole('heading', { name: 'Properties', exact: true })).toBeVisible();
  answers.shift();
  await page.reload();
  const again = events(page).getByRole('alert').getByRole('button', { name: 'Try again' });
  await expect(again).toBeVisible();
  answers.shift();
  await again.click();
  await expect(events(page).getByRole('heading', { name: 'No events' })).toBeVisible();
  await page.unroute('**/events/?*');
  await page.reload();
  await expect(events(page).getByText('1 event in all')).toBeVisible();
});

test('events load slowly, and older ones continue after a lost connection', async ({ console: page, context, api, expected }) => {
  expected.push(/ERR_INTERNET_DISCONNECTED/);
  const person = await withEvents(api, 'events-slow', 22);
  let release = () => {};
  const released = new Promise<void>((resolve) => (release = resolve));
  await page.route('**/events/?*', async (route) => {
    await released;
    await route.continue();
  });
  await page.goto(`/people#id=${person}`);
  await expect(events(page).getByText('Loading the events …')).toBeVisible();
  release();
  await expect(events(page).locator('details')).toHaveCount(20);
  await page.unroute('**/events/?*');
  await context.setOffline(true);
  await events(page).getByRole('button', { name: 'Older events' }).click();
  await expect(page.getByText('No connection to the service.')).toBeVisible();
  await expect(events(page).getByText('Loading older events …')).toBeVisible();
  await expect(events(page).locator('details')).toHaveCount(20);
  await context.setOffline(false);
  await expect(events(page).getByText('22 events in all')).toBeVisible();
  expect(await names(page)).toEqual(newest(22, 22));
});
