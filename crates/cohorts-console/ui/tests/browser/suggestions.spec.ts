// Names and values from the catalogue during typing: in the builder and in a query, with the keys, and without a catalogue.

import type { Page } from '@playwright/test';
import { expect, expectTotal, test } from './console';

/** Counts the requests of the page for an address. */
function countRequests(page: Page, part: string): string[] {
  const asked: string[] = [];
  page.on('request', (request) => {
    const { pathname, searchParams } = new URL(request.url());
    if (pathname.endsWith(part)) asked.push(searchParams.get('search') ?? searchParams.get('value') ?? '');
  });
  return asked;
}

const option = (page: Page, name: string | RegExp) => page.getByRole('option', { name });

test('the builder suggests events, their properties with types, and values, one request for a pause', async ({ console: page, api }) => {
  const asked = countRequests(page, '/event_definitions/');
  await page.goto('/cohorts/new');
  await page.getByRole('button', { name: 'Event', exact: true }).click();
  const event = page.getByRole('combobox', { name: 'Event' });
  await event.focus();
  // Names of the project come before those with `$`.
  const names = page.locator('.options li');
  await expect(names.first()).not.toHaveText(/^\$/);
  await expect(names.filter({ hasNotText: /action$/ }).last()).toHaveText(/^\$/);
  await event.pressSequentially('purch');
  await expect(option(page, /^purchase$/)).toBeVisible();
  await event.press('ArrowDown');
  await expect(event).toHaveAttribute('aria-activedescendant', (await option(page, /^purchase$/).getAttribute('id')) ?? 'none');
  await event.press('Enter');
  await expect(event).toHaveValue('purchase');
  await expect(page.getByRole('listbox')).toHaveCount(0);
  // The first list was complete, so the longer texts need no request.
  expect(asked.length).toBeLessThanOrEqual(2);

  await page.getByRole('button', { name: '+ where' }).click();
  const property = page.getByRole('combobox', { name: 'Property' });
  await property.fill('curr');
  await expect(option(page, /currency.*text/)).toBeVisible();
  await property.press('ArrowDown');
  await property.press('Enter');
  const values = await api.call('GET', 'events/values/?key=currency&event_name=purchase');
  await page.getByRole('combobox', { name: 'Value' }).focus();
  await expect(option(page, values[0].name)).toContainText(values[0].count.toLocaleString('en'));
  await option(page, values[0].name).click();
  await expect(page.getByRole('button', { name: `Remove ${values[0].name}` })).toBeVisible();
});

test('a query has names and values at the caret, a count, and errors at their place', async ({ console: page, api, expected }) => {
  expected.push(/status of 400/);
  await page.goto('/queries/new');
  const query = page.getByLabel('Query', { exact: true });
  await query.pressSequentially("SELECT person_id FROM events WHERE event = 'purch");
  await expect(option(page, /^purchase$/)).toBeVisible();
  await query.press('ArrowDown');
  await expect(query).toHaveAttribute('aria-activedescendant', /-0$/);
  await query.press('Enter');
  await query.pressSequentially(' AND properties.curr');
  await option(page, /currency.*text/).click();
  await query.pressSequentially(" = '");
  await expect(page.getByRole('listbox')).toBeVisible();
  const [value] = await api.call('GET', 'events/values/?key=currency&event_name=purchase');
  await option(page, value.name).click();
  const text = `SELECT person_id FROM events WHERE event = 'purchase' AND properties.currency = '${value.name}'`;
  await expect(query).toHaveValue(text);
  const { count } = await api.call('POST', 'cohorts/preview/', { query: { kind: 'HogQLQuery', query: text } });
  await expectTotal(page, count);

  await query.fill("SELECT person_id FROM events\nWHERE evnt = 'purchase'");
  await expect(page.getByText('line 2, column 7')).toBeVisible();
  await expect(page.locator('.mistake')).toHaveText('evnt');
  await expect(page.getByTestId('total')).toHaveText('–');
  await page.getByRole('button', { name: 'Show the place' }).click();
  await expect.poll(() => query.evaluate((area: HTMLTextAreaElement) => area.value.slice(area.selectionStart, area.selectionEnd))).toBe('evnt');
  const [mark, field] = [await page.locator('.mistake').boundingBox(), await query.boundingBox()];
  expect(mark && field && mark.y > field.y && mark.y + mark.height < field.y + field.height).toBe(true);
  await page.keyboard.type('event');
  await expect(page.locator('.mistake')).toHaveCount(0);
  await expect(page.getByTestId('total')).not.toHaveText('–');
});

test('too many values, a missing scope and missing names are hints, and any text can be typed', async ({ console: page, expected }) => {
  expected.push(/status of 40[03]/);
  const refusal = (status: number, code: string, detail: string) => ({ status, json: { type: 'x', code, detail, attr: null } });
  const values = countRequests(page, '/persons/values/');
  await page.route('**/persons/values/?*', (route) => {
    const isBegun = new URL(route.request().url()).searchParams.has('value');
    return route.fulfill(isBegun ? { json: [{ name: 'ana@example.org', count: 1 }] } : refusal(400, 'too_many_values', 'There are too many.'));
  });
  await page.route('**/property_definitions/?*', (route) => {
    const results = [{ id: '1', name: 'email', is_numerical: false, property_type: 'String', tags: [], is_seen_on_filtered_events: null }];
    return route.fulfill({ json: { count: 312, next: null, previous: null, results, limit_reached: true } });
  });
  await page.route('**/event_definitions/?*', (route) => route.fulfill(refusal(403, 'permission_denied', "API key missing required scope 'event_definition:read'")));
  await page.goto('/cohorts/new');
  await page.getByRole('button', { name: 'Property', exact: true }).click();
  await page.getByRole('combobox', { name: 'Property' }).fill('e');
  await expect(page.getByText('1 of 312 names. Type more to see others.')).toBeVisible();
  await expect(page.getByText('more names of events and properties than the service stores')).toHaveCount(1);
  await option(page, /email/).click();
  const value = page.getByRole('combobox', { name: 'Value' });
  await value.focus();
  await expect(page.getByText('There are more than 10,000 values. Type the beginning of one.')).toBeVisible();
  await value.pressSequentially('an');
  await expect(option(page, /ana@example.org/)).toBeVisible();
  await value.pressSequentially('a');
  await expect(option(page, /ana@example.org/)).toBeVisible();
  expect(values.at(-1)).toBe('an');
  await value.press('Tab');

  await page.getByRole('button', { name: 'Event', exact: true }).click();
  await page.getByRole('combobox', { name: 'Event' }).fill('brand new');
  await expect(page.getByText('The key lacks the scope event_definition:read')).toBeVisible();
  await expect(page.getByRole('alert')).toHaveCount(0);
  await expect(page.getByTestId('total')).not.toHaveText('–');
});

test('the next key ends the request for the former suggestions', async ({ console: page }) => {
  const ended: string[] = [];
  page.on('requestfailed', (request) => request.url().includes('/event_definitions/') && ended.push(request.url()));
  let isFirst = true;
  await page.route('**/event_definitions/?*', (route) => {
    // The first answer never arrives.
    if (isFirst) isFirst = false;
    else void route.continue();
  });
  await page.goto('/cohorts/new');
  await page.getByRole('button', { name: 'Event', exact: true }).click();
  const [first] = await Promise.all([page.waitForRequest('**/event_definitions/?*'), page.getByRole('combobox', { name: 'Event' }).focus()]);
  await page.getByRole('combobox', { name: 'Event' }).pressSequentially('purch');
  await expect(option(page, /^purchase$/)).toBeVisible();
  expect(ended).toContain(first.url());
});

test('Enter takes the only suggestion, a click shows all, and an unknown name is marked', async ({ console: page }) => {
  await page.goto('/cohorts/new');
  await page.getByRole('button', { name: 'Event', exact: true }).click();
  const event = page.getByRole('combobox', { name: 'Event' });
  const options = page.locator('li[role=option]');
  await expect(event).toBeFocused();
  await event.pressSequentially('survey');
  await expect(options).toHaveText(['churn_survey']);
  await event.press('Enter');
  await expect(event).toHaveValue('churn_survey');
  await expect(options).toHaveCount(0);
  await event.click();
  await expect(options.getByText('churn_survey', { exact: true })).toBeVisible();
  await event.fill('surv');
  await page.getByLabel('Description').focus();
  await expect(page.getByText('No event has this name yet.')).toBeVisible();
  await event.fill('purchase');
  await page.getByLabel('Description').focus();
  await expect(page.getByText('No event has this name yet.')).toHaveCount(0);

  await page.getByRole('button', { name: 'Property', exact: true }).click();
  await options.getByText('plan', { exact: true }).click();
  const value = page.getByRole('combobox', { name: 'Value' });
  await expect(value).toBeFocused();
  await value.pressSequentially('ent');
  await expect(options).toHaveCount(1);
  await value.press('Enter');
  await expect(page.getByRole('button', { name: 'Remove enterprise' })).toBeVisible();
});
