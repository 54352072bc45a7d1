// Members that enter and leave while pages are open, the size over time, the feed, and webhooks.

import type { Page } from '@playwright/test';
import { KEY, expect, test } from './console';
import type { Api } from './console';

/** A service under load takes its time. */
const LONG = { timeout: 60_000 };

const unique = (name: string) => `${name}-${Date.now()}-${Math.trunc(Math.random() * 1e6)}`;
const marked = (value: string) => ({ properties: { type: 'AND', values: [{ type: 'person', key: 'mark', operator: 'exact', value }] } });
const enter = (api: Api, id: string, mark: string) => api.capture({ event: 'x', distinct_id: id, properties: { $set: { mark } } });
const isLive = (page: Page) => expect(page.locator('.live.on').first()).toBeVisible(LONG);

async function cohortOf(api: Api, mark: string): Promise<number> {
  const id = await api.cohort({ name: mark, filters: marked(mark) });
  await expect.poll(async () => (await api.call('GET', `cohorts/${id}/`)).count, LONG).toBe(0);
  return id;
}

test('a member who enters is shown and announced while the page is open', async ({ console: page, api }) => {
  test.slow();
  const mark = unique('enters');
  const id = await cohortOf(api, mark);
  await page.goto(`/cohorts/${id}`);
  await isLive(page);
  await expect(page.getByTestId('size')).toHaveText('0');
  await enter(api, `${mark}-ana`, mark);
  await expect(page.getByTestId('size')).toHaveText('1', LONG);
  await expect(page.locator('.announcement')).toHaveText(`${mark}-ana entered`, LONG);
  await expect(page.locator('.big-row a')).toHaveCount(1, LONG);
  await enter(api, `${mark}-ana`, 'other');
  await expect(page.getByTestId('size')).toHaveText('0', LONG);
});

test('the numbers of the list move, and two tabs share a stream', async ({ console: page, context, api }) => {
  test.slow();
  const mark = unique('list');
  const id = await cohortOf(api, mark);
  const streams: string[] = [];
  context.on('request', (request) => request.url().includes('changes.sse') && streams.push(request.url()));
  await page.goto('/cohorts');
  await isLive(page);
  const second = await context.newPage();
  await second.addInitScript((key) => sessionStorage.setItem('cohorts.key', key), KEY);
  await second.goto('/cohorts');
  await isLive(second);
  await enter(api, `${mark}-1`, mark);
  for (const tab of [page, second]) {
    const row = tab.locator('tr').filter({ has: tab.locator(`a[href^="/cohorts/${id}"]`) });
    await expect(row.locator('.number')).toContainText('1', LONG);
    await expect(row.locator('.moved')).toHaveText('+1', LONG);
  }
  expect(streams).toHaveLength(1);
  // The other tab continues when the first one is closed.
  await page.close();
  await enter(api, `${mark}-2`, mark);
  await expect(second.locator('tr').filter({ has: second.locator(`a[href^="/cohorts/${id}"]`) }).locator('.moved')).toHaveText('+2', LONG);
});

test('a stream continues after the last change when the connection is back', async ({ console: page, context, api, expected }) => {
  test.slow();
  expected.push(/ERR_INTERNET_DISCONNECTED/, /ERR_NETWORK/);
  const mark = unique('offline');
  const id = await cohortOf(api, mark);
  await page.goto(`/changes#cohort=${id}`);
  await isLive(page);
  await enter(api, `${mark}-1`, mark);
  await expect(page.getByRole('link', { name: `${mark}-1` })).toBeVisible(LONG);
  await context.setOffline(true);
  await expect(page.getByText('Not live')).toBeVisible(LONG);
  await enter(api, `${mark}-2`, mark);
  await expect.poll(async () => (await api.call('GET', `cohorts/${id}/`)).count, LONG).toBe(2);
  await context.setOffline(false);
  await expect(page.getByRole('link', { name: `${mark}-2` })).toBeVisible(LONG);
});

const stop = (status: number, code: string, detail: string, headers = {}) => ({ status, headers, json: { type: 'x', code, detail, attr: null } });

test('a stream that is refused says why, and an expired position begins again', async ({ console: page, expected }) => {
  expected.push(/status of (403|410|429)/);
  let answers = [stop(429, 'throttled', 'Too many streams.', { 'retry-after': '1' }), stop(410, 'cursor_expired', 'Begin again.')];
  await page.route('**/changes.sse**', (route) => {
    const answer = answers.shift();
    return answer ? route.fulfill(answer) : route.continue();
  });
  await page.goto('/changes');
  await isLive(page);
  expect(answers).toEqual([]);
  answers = [stop(403, 'permission_denied', "API key missing required scope 'person:read'")];
  await page.reload();
  await expect(page.locator('.live')).toContainText('The key lacks the scope person:read', LONG);
});

test('the changes are filtered, lead to persons, and can be paused', async ({ console: page, api }) => {
  test.slow();
  const mark = unique('feed');
  const id = await cohortOf(api, mark);
  await enter(api, `${mark}-1`, mark);
  await expect.poll(async () => (await api.call('GET', `cohorts/${id}/`)).count, LONG).toBe(1);
  await page.goto('/changes');
  await page.getByLabel('Cohort', { exact: true }).selectOption(String(id));
  await expect(page.locator('table.changes tbody tr')).toHaveCount(1, LONG);
  expect(new URL(page.url()).search).toBe('');
  await isLive(page);
  await page.getByRole('button', { name: 'Pause' }).click();
  await enter(api, `${mark}-2`, mark);
  await expect.poll(async () => (await api.call('GET', `cohorts/${id}/`)).count, LONG).toBe(2);
  await expect(page.locator('table.changes tbody tr')).toHaveCount(1);
  await page.getByRole('button', { name: 'Continue' }).click();
  await expect(page.locator('table.changes tbody tr')).toHaveCount(2, LONG);
  await page.getByRole('link', { name: `${mark}-1` }).click();
  await expect(page.getByRole('heading', { name: 'Properties' })).toBeVisible();
});

test('the size over time is a chart and a table, and moves', async ({ console: page, api }) => {
  test.slow();
  const mark = unique('size');
  const id = await cohortOf(api, mark);
  await page.goto(`/cohorts/${id}/size#interval=minute`);
  await expect(page.getByRole('img', { name: /^Size over time: .* to 0 members/ })).toBeVisible(LONG);
  await isLive(page);
  await enter(api, `${mark}-1`, mark);
  await expect(page.getByRole('img', { name: /to 1 member,/ })).toBeVisible(LONG);
  // Only a number of persons who left has the colour of a loss.
  await expect(page.locator('.readout dt', { hasText: 'Left' })).toBeVisible();
  await expect(page.locator('.readout .left')).toHaveCount(0);
  await page.getByText('As a table').click();
  await expect(page.getByRole('region', { name: 'Sizes as a table' }).locator('tbody tr').first().locator('.number').first()).toHaveText('1');
  await page.getByRole('button', { name: 'Days' }).click();
  await expect(page.getByRole('img', { name: /^Size over time/ })).toBeVisible(LONG);
  await expect(page).toHaveURL(/\/size$/);
});

test('a cohort without a record, and a key without the scope', async ({ console: page, expected }) => {
  expected.push(/status of 403/);
  const row = { at: '2026-01-01T00:00:00Z', count: null, entered: null, left: null };
  await page.route('**/sizes/?*', (route) => route.fulfill({ json: { results: [row], evaluated_before: null, uses_current_properties: false } }));
  await page.goto('/cohorts/1/size');
  await expect(page.getByRole('heading', { name: 'No record yet' })).toBeVisible();
  const refusal = stop(403, 'permission_denied', "API key missing required scope 'webhook:read'");
  await page.route('**/webhooks/**', (route) => (route.request().resourceType() === 'document' ? route.continue() : route.fulfill(refusal)));
  await page.goto('/webhooks');
  await expect(page.getByRole('alert')).toContainText('The key lacks the scope webhook:read');
});

test('a webhook: its secret once, a test, its deliveries, a pause, a new secret, its end', async ({ console: page }) => {
  test.slow();
  await page.goto('/webhooks');
  await page.getByRole('button', { name: 'New webhook' }).click();
  const url = `https://${unique('hook')}.example.invalid/changes`;
  await page.getByLabel('Address').fill(url);
  await page.getByLabel('Description').fill('For the tests');
  await page.getByLabel('some cohorts').check();
  await expect(page.getByRole('button', { name: 'Create' })).toBeDisabled();
  await page.getByLabel('Paying customers').check();
  await page.getByRole('button', { name: 'Create' }).click();
  await expect(page.getByTestId('secret')).toHaveText(/^whsec_\S+$/);
  const secret = await page.getByTestId('secret').innerText();
  await page.getByRole('button', { name: 'Done' }).click();
  await expect(page.getByRole('heading', { name: url })).toBeVisible();
  await expect(page.getByText('Paying customers')).toBeVisible();
  await expect(page.getByText(secret)).toHaveCount(0);
  await page.getByRole('button', { name: 'Send a test' }).click();
  await expect(page.getByText(/^The test failed\./)).toBeVisible(LONG);
  await expect(page.locator('.timeline li').filter({ hasText: 'a test' })).toHaveCount(1, LONG);
  await page.getByRole('button', { name: 'Pause' }).click();
  await expect(page.getByText('paused', { exact: true })).toBeVisible();
  await page.getByRole('button', { name: 'Continue' }).click();
  await expect(page.getByRole('button', { name: 'Pause' })).toBeVisible();
  await page.getByRole('button', { name: 'Replay …' }).click();
  await page.getByRole('button', { name: 'Replay', exact: true }).click();
  await expect(page.getByRole('dialog')).toHaveCount(0);
  await page.getByRole('button', { name: 'New secret …' }).click();
  await page.getByRole('button', { name: 'New secret', exact: true }).click();
  await expect(page.getByTestId('secret')).not.toHaveText(secret);
  await page.getByRole('button', { name: 'Done' }).click();
  await page.getByRole('button', { name: 'Delete …' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await expect(page).toHaveURL(/\/webhooks$/);
  await expect(page.getByRole('link', { name: url })).toHaveCount(0);
});
