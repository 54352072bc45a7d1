// A newcomer's path: from the start page to a saved cohort, which has the size that was shown, and to the reason why a
// person is a member.

import { KEY, expect, expectTotal, test } from './console';

test('from the start page to a saved cohort and a member', async ({ page, api }) => {
  await page.goto('/');
  await expect(page).toHaveTitle('Sign in · Cohorts');
  await page.getByLabel('Personal key').fill(KEY);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await expect(page.getByRole('heading', { name: 'Cohorts', level: 1 })).toBeVisible();
  await expect(page).toHaveURL(/\/cohorts$/);

  await page.getByRole('link', { name: 'New cohort' }).click();
  await page.getByLabel('Name').fill('Paying, bought often, not surveyed');

  await page.getByRole('button', { name: 'Property', exact: true }).click();
  await page.getByRole('combobox', { name: 'Property' }).fill('plan');
  await page.getByRole('combobox', { name: 'Property' }).press('Tab');
  const value = page.getByRole('combobox', { name: 'Value' });
  await value.fill('pro');
  await page.getByRole('option', { name: /^pro/ }).or(value).first().press('Enter');
  await value.fill('enterprise');
  await value.press('Enter');

  await page.getByRole('button', { name: 'Event', exact: true }).click();
  const bought = page.getByRole('combobox', { name: 'Event' });
  await bought.fill('purch');
  await page.getByRole('option', { name: 'purchase', exact: true }).click();
  // The number is selected, so that one key replaces it.
  await page.getByLabel('Number of times').click();
  await page.keyboard.press('3');
  await expect(page.getByLabel('Number of times')).toHaveValue('3');

  await page.getByRole('button', { name: 'Event', exact: true }).click();
  await page.getByLabel('What they did').last().selectOption('never did');
  await page.getByRole('combobox', { name: 'Event' }).last().fill('churn_survey');
  await page.getByRole('combobox', { name: 'Event' }).last().press('Escape');

  const filters = {
    properties: {
      type: 'AND',
      values: [
        { type: 'person', key: 'plan', operator: 'exact', value: ['pro', 'enterprise'] },
        { type: 'behavioral', key: 'purchase', event_type: 'events', value: 'performed_event_multiple', operator: 'gte', operator_value: 3, time_value: 30, time_interval: 'day' },
        { type: 'behavioral', key: 'churn_survey', event_type: 'events', value: 'performed_event', explicit_datetime: 'all', negation: true },
      ],
    },
  };
  const { count, criteria } = await api.call('POST', 'cohorts/preview/', { filters });
  expect(count).toBeGreaterThan(0);
  await expectTotal(page, count);
  for (const [at, criterion] of criteria.entries()) {
    await expect(page.getByTestId('criterion-count').nth(at)).toHaveText(criterion.count.toLocaleString('en'));
  }

  await page.getByRole('button', { name: 'Save cohort' }).click();
  await expect(page.getByRole('heading', { name: 'Paying, bought often, not surveyed' })).toBeVisible();
  await expect(page.getByTitle(count === 1 ? '1 member' : `${count} members`, { exact: true })).toHaveText(String(count));
  const id = Number(new URL(page.url()).pathname.split('/').at(-1));
  const saved = await api.call('GET', `cohorts/${id}/`);
  expect(saved.count).toBe(count);
  for (const [at, leaf] of filters.properties.values.entries()) {
    expect(saved.filters.properties.values[at]).toMatchObject(leaf);
  }

  const member = page.locator('.big-row a').first();
  const name = await member.innerText();
  await member.click();
  await expect(page.getByRole('heading', { name, level: 1 })).toBeVisible();
  await expect(page.getByRole('link', { name: 'Paying, bought often, not surveyed' }).first()).toBeVisible();
  expect(new URL(page.url()).pathname).toBe('/people');
  await expect(page.locator('.findings .holds')).toHaveCount(3);
  await expect(page.locator('.findings .fails')).toHaveCount(0);
  await expect(page.locator('.findings')).toContainText(/found: plan is (pro|enterprise)/);
  await expect(page.locator('.findings')).toContainText('found: no churn_survey event at any time');

  await page.getByRole('navigation', { name: 'Path' }).getByRole('link', { name: 'Paying, bought often, not surveyed' }).click();
  await expect(page.getByRole('heading', { name: 'Paying, bought often, not surveyed' })).toBeVisible();
  await page.reload();
  await expect(page.getByRole('heading', { name: 'Paying, bought often, not surveyed' })).toBeVisible();
});
