// Each screen in both themes and at three widths: axe finds nothing, and nothing is wider than the window.

import { AxeBuilder } from '@axe-core/playwright';
import type { Page } from '@playwright/test';
import { expect, test } from './console';

const WIDTHS = [320, 1024, 1600];

/** The screens, by what makes each one ready. */
const SCREENS: [string, string, (page: Page) => Promise<void>][] = [
  ['cohorts', '/cohorts', async (page) => expect(page.locator('table.cohorts a').first()).toBeVisible()],
  ['deleted cohorts', '/cohorts#show=deleted', async (page) => expect(page.locator('table.cohorts, .empty').first()).toBeVisible()],
  ['members', '/cohorts/1', async (page) => expect(page.locator('.big-row a').first()).toBeVisible()],
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

async function dropFile(page: Page) {
  const buffer = Buffer.from('name;E-Mail;id\nAna;ana@example.org;u-1\n');
  await page.locator('input[type=file]').setInputFiles({ name: 'invited.csv', mimeType: 'text/csv', buffer });
  await expect(page.getByLabel('Meaning of E-Mail')).toHaveValue('email');
}

async function openPerson(page: Page) {
  await page.locator('.big-row a').first().click();
  await expect(page.getByRole('heading', { name: 'Properties' })).toBeVisible();
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
        for (const width of WIDTHS) {
          await page.setViewportSize({ width, height: 900 });
          const excess = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
          expect(excess, `${name} at ${width} px`).toBeLessThanOrEqual(0);
          await check(page, `${name} at ${width} px`);
        }
      });
    }
  });
}
