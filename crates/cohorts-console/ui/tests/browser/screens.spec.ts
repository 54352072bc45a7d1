// Each screen in both themes and at several widths: axe finds nothing, and nothing is wider than the window.

import { AxeBuilder } from '@axe-core/playwright';
import type { Page } from '@playwright/test';
import { expect, test } from './console';

/** The layout differs by width, and colours by theme. */
const WIDTHS = { light: [320, 1024, 1600], dark: [1024] };
/** The widths at which axe looks. */
const AXE = [320, 1024];

/** The screens, by what makes each one ready. */
const SCREENS: [string, string, (page: Page) => Promise<void>][] = [
  ['cohorts', '/cohorts', async (page) => expect(page.locator('table.cohorts a').first()).toBeVisible()],
  ['deleted cohorts', '/cohorts#show=deleted', async (page) => expect(page.locator('table.cohorts, .empty').first()).toBeVisible()],
  ['members', '/cohorts/1', async (page) => expect(page.locator('.big-row a').first()).toBeVisible()],
  ['sizes', '/cohorts/1/size', openSizes],
  ['changes', '/changes', async (page) => expect(page.locator('table.changes, .empty').first()).toBeVisible()],
  ['overlap', '/overlap', async (page) => expect(page.getByLabel('Paying customers')).toBeVisible()],
  ['overlap of some', '/overlap#ids=1,2,7,8&pair=1,7', async (page) => expect(page.getByRole('region', { name: 'Differences of events' })).toBeVisible()],
  ['webhooks', '/webhooks', async (page) => expect(page.locator('table.webhooks, .empty').first()).toBeVisible()],
  ['a new webhook', '/webhooks', openNewWebhook],
  ['a webhook', '/webhooks/7', openWebhook],
  ['criteria', '/cohorts/6/criteria', async (page) => expect(page.locator('.criterion-line').first()).toBeVisible()],
  ['activity', '/cohorts/1/activity', async (page) => expect(page.locator('.timeline li').first()).toBeVisible()],
  ['uses', '/cohorts/1/uses', async (page) => expect(page.locator('.links a').first()).toBeVisible()],
  ['a list', '/cohorts/9/criteria', async (page) => expect(page.getByRole('heading', { level: 1 })).toBeVisible()],
  ['an unknown cohort', '/cohorts/999999', async (page) => expect(page.getByText('There is no such cohort')).toBeVisible()],
  ['a new cohort', '/cohorts/new', addOfEach],
  ['a cohort in the builder', '/cohorts/6/edit', async (page) => expect(page.getByTestId('total')).not.toHaveText('–')],
  ['a query', '/queries/new', async (page) => expect(page.getByLabel('Query', { exact: true })).toBeVisible()],
  ['a file', '/lists/new', dropFile],
  ['people', '/people', async (page) => expect(page.locator('.big-row a').first()).toBeVisible()],
  ['a person', '/people', openPerson],
  ['nothing', '/cohorts/1/x/y', async (page) => expect(page.getByText('There is no such page')).toBeVisible()],
];

async function addOfEach(page: Page) {
  for (const name of ['Event', 'Property', 'Cohort', 'First seen', 'Group']) {
    await page.getByRole('button', { name, exact: true }).first().click();
  }
  for (const kind of ['did in sequence', 'did regularly']) {
    await page.getByRole('button', { name: 'Event', exact: true }).last().click();
    await page.getByLabel('What they did').last().selectOption(kind);
  }
  await page.getByText('As JSON, and as a request').click();
  await expect(page.getByLabel('Criteria as JSON')).toBeVisible();
}

async function openSizes(page: Page) {
  await expect(page.getByRole('img', { name: /^Size over time/ })).toBeVisible();
  await page.getByText('As a table').click();
}

async function openNewWebhook(page: Page) {
  await page.getByRole('button', { name: 'New webhook' }).click();
  await page.getByLabel('some cohorts').check();
  await expect(page.getByLabel('Paying customers')).toBeVisible();
}

/** A webhook with a failure and a success, as the API describes it. */
async function openWebhook(page: Page) {
  const time = '2026-03-01T12:00:00Z';
  const webhook = {
    id: 7, url: 'https://hooks.example.org/a-long-address/'.padEnd(120, 'x'), cohort_ids: [1], description: 'Mailing list', enabled: true,
    paused_reason: null, paused_detail: null, failing_since: time, next_attempt_at: time, created_at: time, created_by: null,
  };
  const delivery = {
    id: 1, message_id: 'msg_1', type: 'cohort.changes', from_cursor: 'a', cursor: 'b', changes: 3, attempt: 2, status: 'failed', response_status: 500,
    response_body: 'no', error: 'The address answered with the status 500.', started_at: time, duration_ms: 31,
  };
  const deliveries = [delivery, { ...delivery, id: 2, status: 'delivered', response_status: 204, error: null }];
  await page.route('**/webhooks/7/', (route) => route.fulfill({ json: webhook }));
  await page.route('**/webhooks/7/deliveries/**', (route) => route.fulfill({ json: { count: 2, next: null, previous: null, results: deliveries } }));
  await page.reload();
  await expect(page.getByText('delivered')).toBeVisible();
}

async function dropFile(page: Page) {
  const buffer = Buffer.from('name;E-Mail;id\nAna;ana@example.org;u-1\n');
  await page.locator('input[type=file]').setInputFiles({ name: 'invited.csv', mimeType: 'text/csv', buffer });
  await expect(page.getByLabel('Meaning of E-Mail')).toHaveValue('email');
}

/** A person with an event that is open, and older ones. */
async function openPerson(page: Page) {
  const event = {
    id: '0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5c', distinct_id: 'ana', event: 'purchase of a large order'.padEnd(120, 'x'), timestamp: '2026-03-01T12:00:00Z',
    properties: { amount: 49.5, address: 'https://shop.example.org/'.padEnd(400, 'x'), items: [{ id: 1 }], note: null },
    person: { is_identified: true, distinct_ids: ['ana'], properties: {} },
  };
  await page.route('**/events/?*', (route) => route.fulfill({ json: { next: '/events/?cursor=a', results: [event] } }));
  await page.locator('.big-row a').first().click();
  await expect(page.getByRole('heading', { name: 'Properties' })).toBeVisible();
  await page.locator('.events summary').click();
  await expect(page.locator('.events .properties')).toBeVisible();
  await expect(page.getByRole('button', { name: 'Older events' })).toBeVisible();
}

async function check(page: Page, name: string) {
  const { violations } = await new AxeBuilder({ page }).analyze();
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 200)).join(' | ')}`);
  expect(found, name).toEqual([]);
}

for (const colorScheme of ['light', 'dark'] as const) {
  test.describe(colorScheme, () => {
    test.use({ colorScheme });

    test('the start page', async ({ page }) => {
      await page.goto('/');
      await expect(page.getByLabel('Personal key')).toBeVisible();
      await page.getByLabel('Personal key').fill('phc_x');
      await page.getByRole('button', { name: 'Sign in' }).click();
      await expect(page.getByRole('alert')).toContainText('the token of a project');
      await check(page, 'the start page');
    });

    for (const [name, path, ready] of SCREENS) {
      test(name, async ({ console: page, expected }) => {
        // The browser reports the response with the status 404 of an unknown object.
        expected.push(/status of 404/);
        test.slow();
        await page.goto(path);
        await ready(page);
        for (const width of WIDTHS[colorScheme]) {
          await page.setViewportSize({ width, height: 900 });
          const excess = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
          expect(excess, `${name} at ${width} px`).toBeLessThanOrEqual(0);
          if (AXE.includes(width)) await check(page, `${name} at ${width} px`);
        }
      });
    }
  });
}
