// States without data: a key that is refused, a scope that is missing, a lost connection, a busy service.

import { KEY, expect, test } from './console';

const error = (code: string, detail: string) => ({ type: 'x', code, detail, attr: null });

test('a wrong key is refused in words, and the key stays out of the address and of lasting storage', async ({ page, expected }) => {
  expected.push(/status of 401/);
  await page.goto('/');
  await page.getByLabel('Personal key').fill('phx_wrong');
  await page.getByRole('button', { name: 'Sign in' }).click();
  await expect(page.getByRole('alert')).toContainText('does not know this key');
  await page.getByLabel('Personal key').fill(KEY);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await expect(page.getByRole('link', { name: 'New cohort' })).toBeVisible();
  const stored = await page.evaluate(() => [JSON.stringify(localStorage), document.cookie, location.href, JSON.stringify(history.state)].join());
  expect(stored).not.toContain(KEY);
  await page.getByRole('button', { name: 'Sign out' }).click();
  await expect.poll(() => page.evaluate(() => JSON.stringify(sessionStorage))).not.toContain(KEY);
});

test('a key that is revoked leads to the sign-in, and the place is kept', async ({ console: page, expected }) => {
  expected.push(/status of 401/);
  await page.goto('/cohorts/1');
  await expect(page.locator('.big-row a').first()).toBeVisible();
  await page.route('**/api/**', (route) => route.fulfill({ status: 401, json: error('authentication_failed', 'The key is invalid.') }));
  await page.getByRole('link', { name: 'Used by' }).click();
  await expect(page.getByLabel('Personal key')).toBeVisible();
  await page.unroute('**/api/**');
  await page.getByLabel('Personal key').fill(KEY);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await expect(page.getByRole('heading', { name: 'Cohorts that use this one' })).toBeVisible();
});

test('a missing scope is named', async ({ console: page, expected }) => {
  expected.push(/status of 403/);
  await page.route('**/persons/?*', (route) =>
    route.fulfill({ status: 403, json: error('permission_denied', "API key missing required scope 'person:read'") }),
  );
  for (const path of ['/people', '/cohorts/1']) {
    await page.goto(path);
    await expect(page.getByRole('alert')).toContainText('The key lacks the scope person:read');
  }
  await page.route('**/activity/?*', (route) =>
    route.fulfill({ status: 403, json: error('permission_denied', "API key missing required scope 'activity_log:read'") }),
  );
  await page.goto('/cohorts/1/activity');
  await expect(page.getByRole('alert')).toContainText('activity_log:read');
  await expect(page.getByText(/^Calculated/).first()).toBeVisible();
});

test('a lost connection is reported, and the page continues by itself', async ({ console: page, context, expected }) => {
  expected.push(/ERR_INTERNET_DISCONNECTED/);
  await page.goto('/cohorts/new');
  await page.getByRole('button', { name: 'Property', exact: true }).click();
  await page.getByRole('combobox', { name: 'Property' }).fill('plan');
  await context.setOffline(true);
  await page.getByRole('combobox', { name: 'Value' }).fill('pro');
  await expect(page.getByText('No connection to the service.')).toBeVisible();
  await context.setOffline(false);
  await expect(page.getByText('No connection to the service.')).toBeHidden();
  await expect(page.getByTestId('total')).not.toHaveText('–');
  await expect(page.getByRole('combobox', { name: 'Value' })).toHaveValue('pro');
});

test('a busy service is asked again when it says so', async ({ console: page, expected }) => {
  expected.push(/status of 429/);
  let refusals = 2;
  await page.route('**/cohorts/?*', (route) => {
    refusals -= 1;
    return refusals < 0
      ? route.continue()
      : route.fulfill({ status: 429, headers: { 'retry-after': '1' }, json: error('throttled', 'Request was throttled.') });
  });
  await page.goto('/cohorts');
  await expect(page.getByText('The service is busy.')).toBeVisible();
  await expect(page.locator('table.cohorts a').first()).toBeVisible();
  await expect(page.getByText('The service is busy.')).toBeHidden();
});

test('a project without cohorts or persons says what to do next', async ({ console: page }) => {
  await page.route('**/cohorts/?*', (route) => route.fulfill({ json: { count: 0, next: null, previous: null, results: [] } }));
  await page.route('**/persons/?*', (route) => route.fulfill({ json: { count: 0, next: null, previous: null, results: [] } }));
  await page.goto('/cohorts');
  await expect(page.getByRole('heading', { name: 'No cohorts yet' })).toBeVisible();
  await page.goto('/people');
  await expect(page.getByRole('heading', { name: 'No persons yet' })).toBeVisible();
});

test('a key with several projects chooses one, and the address keeps it', async ({ page, api }) => {
  const project = (id: number, name: string) => ({ id, name, api_token: 'phc_x', timezone: 'Europe/Madrid', created_at: '2026-01-01T00:00:00Z' });
  const results = [project(api.project, 'Shop'), project(api.project + 1_000, 'Other shop')];
  await page.route('**/api/projects/?*', (route) => route.fulfill({ json: { count: 2, next: null, previous: null, results } }));
  await page.goto('/cohorts/1');
  await page.getByLabel('Personal key').fill(KEY);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await expect(page.getByRole('heading', { name: 'Choose a project' })).toBeVisible();
  await page.getByRole('button', { name: /^Shop/ }).click();
  await expect(page.locator('.big-row a').first()).toBeVisible();
  await expect(page).toHaveURL(new RegExp(`/cohorts/1\\?project=${api.project}$`));
  await page.reload();
  await expect(page.locator('.big-row a').first()).toBeVisible();
  await page.getByRole('link', { name: 'Cohorts', exact: true }).first().click();
  await expect(page).toHaveURL(new RegExp(`/cohorts\\?project=${api.project}$`));
});

test('titles say where the reader is, and back leads there', async ({ console: page }) => {
  await page.goto('/cohorts');
  await expect(page).toHaveTitle(/^Cohorts · /);
  await page.getByRole('link', { name: 'Paying customers' }).click();
  await expect(page).toHaveTitle(/^Paying customers · /);
  await page.getByRole('link', { name: 'Criteria', exact: true }).click();
  await expect(page.getByText('Persons who match')).toBeVisible();
  await page.goBack();
  await expect(page.getByRole('table')).toBeVisible();
  await page.goBack();
  await expect(page).toHaveTitle(/^Cohorts · /);
  await page.goForward();
  await expect(page).toHaveTitle(/^Paying customers · /);
});
