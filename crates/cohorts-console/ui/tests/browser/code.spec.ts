// Sign-in by the address that a command prints: its code leaves the address at once, and is used once.

import { execSync } from 'node:child_process';
import type { Page } from '@playwright/test';
import { KEY, expect, setting, test } from './console';

/** A new address with a code. */
const newAddress = () => execSync(setting('COHORTS_CONSOLE'), { encoding: 'utf8' }).split('\n')[0] ?? '';
const codeOf = (address: string) => address.split('code=')[1] ?? 'none';

/** Everything in which a code or a key could be left behind, besides the storage of the tab. */
const traces = (page: Page) => page.evaluate(() => [location.href, JSON.stringify(history.state), JSON.stringify(localStorage), document.cookie].join());

test('the address signs in once, and its code leaves the address before the first request', async ({ page, context, expected }) => {
  expected.push(/status of 401/);
  const address = newAddress();
  const seen: string[] = [];
  page.on('request', (request) => {
    if (request.url().includes('/api/')) seen.push(page.url());
  });
  await page.goto(address);
  await expect(page).toHaveURL(/\/cohorts$/);
  expect(seen.length).toBeGreaterThan(0);
  expect(seen.join()).not.toContain('code=');
  await expect(page.locator('.account')).toContainText('owner@localhost');
  await expect(page.locator('.account')).toContainText(/^(?=.*Demo of)(?=.*console, ends in 1[12] hours)/);
  const key = await page.evaluate(() => sessionStorage.getItem('cohorts.key') ?? '');
  expect(key).toMatch(/^phx_/);
  const left = await traces(page);
  expect(left).not.toContain(codeOf(address));
  expect(left).not.toContain(key);
  await page.reload();
  await expect(page.locator('.account')).toContainText('console, ends in');
  await page.goBack();
  expect(page.url()).not.toContain('code=');

  const second = await context.newPage();
  await second.goto(address);
  await expect(second.getByText('The address was used before, or is older than ten minutes.')).toBeVisible();
  await expect(second.getByLabel('Personal key')).toBeVisible();
  expect(second.url()).not.toContain('code=');
});

test('a tab that is signed in keeps its session and does not use the code', async ({ console: page, context }) => {
  const requests: string[] = [];
  context.on('request', (request) => requests.push(request.url()));
  await page.goto('/cohorts');
  await expect(page.getByRole('link', { name: 'New cohort' })).toBeVisible();
  const address = newAddress();
  for (const hash of [`/cohorts#code=${codeOf(address)}`, `/cohorts?again#code=${codeOf(address)}`]) {
    await page.goto(hash);
    await expect(page.getByText('This tab is signed in already, so the code was not used.')).toBeVisible();
    expect(page.url()).not.toContain('code=');
  }
  expect(requests.filter((url) => url.includes('/api/console/'))).toEqual([]);
  expect(await page.evaluate(() => sessionStorage.getItem('cohorts.key'))).toBe(KEY);
  // The code is still good for a tab that is not signed in, also if the page is open already.
  const second = await context.newPage();
  await second.goto('/');
  await expect(second.getByLabel('Personal key')).toBeVisible();
  await second.goto(address.slice(address.indexOf('/#')));
  await expect(second.getByRole('link', { name: 'New cohort' })).toBeVisible();
});

test('a wrong code is explained, and a service that fails keeps the page usable', async ({ page, expected }) => {
  expected.push(/status of (401|503)/);
  await page.goto('/#code=wrong');
  await expect(page.getByText('The address was used before, or is older than ten minutes.')).toBeVisible();
  const busy = { type: 'server_error', code: 'unavailable', detail: 'Try again in a moment.', attr: null };
  await page.route('**/api/console/session/', (route) => route.fulfill({ status: 503, json: busy }));
  await page.goto('/?#code=wrong');
  await expect(page.getByText('The service is busy')).toBeVisible();
  await page.getByLabel('Personal key').fill(KEY);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await expect(page.getByRole('link', { name: 'New cohort' })).toBeVisible();
});
