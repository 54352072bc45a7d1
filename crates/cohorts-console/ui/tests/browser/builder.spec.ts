// The builder: errors at their criterion, edits that change no other criterion, the JSON next to it, and drafts.

import { expect, expectTotal, plan, test } from './console';

const FILTERS = {
  properties: {
    type: 'AND',
    values: [
      { type: 'person', key: 'plan', operator: 'exact', value: ['starter', 'pro'] },
      { type: 'behavioral', key: 'purchase', event_type: 'events', value: 'performed_event', time_value: 60, time_interval: 'day', event_filters: [{ type: 'event', key: 'amount', operator: 'is_set' }] },
      { type: 'OR', values: [{ type: 'person', key: 'age', operator: 'lt', value: 30 }, { type: 'person', key: 'company', operator: 'is_set' }] },
    ],
  },
};

test('a criterion that cannot be evaluated has its error next to it', async ({ console: page, expected }) => {
  expected.push(/status of 400/);
  await page.goto('/cohorts/new');
  for (const [at, value] of ['pro', '('].entries()) {
    await page.getByRole('button', { name: 'Property', exact: true }).click();
    await page.getByRole('combobox', { name: 'Property' }).nth(at).fill('plan');
    await page.getByRole('combobox', { name: 'Property' }).nth(at).press('Escape');
    if (at === 1) await page.getByLabel('Comparison', { exact: true }).nth(1).selectOption('matches the pattern');
    await page.getByLabel('Value', { exact: true }).nth(at).fill(value);
  }
  const wrong = page.locator('.criterion-edit.wrong');
  await expect(wrong).toHaveCount(1);
  await expect(wrong.getByRole('alert')).toContainText('regular expression');
  await expect(wrong.getByLabel('Value', { exact: true })).toHaveValue('(');
  await page.getByLabel('Value', { exact: true }).nth(1).fill('^p');
  await expect(wrong).toHaveCount(0);
  await expect(page.getByTestId('total')).not.toHaveText('–');
});

test('a filter that is only negative says so at the group', async ({ console: page, expected }) => {
  expected.push(/status of 400/);
  await page.goto('/cohorts/new');
  await page.getByRole('button', { name: 'Event', exact: true }).click();
  await page.getByLabel('What they did').selectOption('did not do');
  await page.getByRole('combobox', { name: 'Event' }).fill('purchase');
  await expect(page.getByRole('alert')).toContainText('cannot be negated');
});

test('removing and duplicating a criterion changes no other', async ({ console: page, api }) => {
  const id = await api.cohort({ name: 'Edited', filters: FILTERS });
  await page.goto(`/cohorts/${id}/edit`);
  const json = async () => JSON.parse(await page.getByLabel('Criteria as JSON').inputValue());
  const values = async () => (await json()).properties.values;
  await page.getByText('As JSON, and as a request').click();
  await expect.poll(json).toEqual(FILTERS);
  const [first, second, third] = FILTERS.properties.values;

  await page.getByLabel('More for the criterion').first().click();
  await page.getByRole('button', { name: 'Duplicate' }).first().click();
  await expect.poll(values).toEqual([first, first, second, third]);
  await page.getByLabel('Remove the criterion').nth(2).click();
  await expect.poll(values).toEqual([first, first, third]);
  await page.getByRole('button', { name: 'Undo' }).click();
  await expect.poll(values).toEqual([first, first, second, third]);
  await page.getByLabel('Remove the criterion').first().click();
  await expect.poll(values).toEqual([first, second, third]);
  const { count } = await api.call('POST', 'cohorts/preview/', { filters: FILTERS });
  await expectTotal(page, count);
});

test('the JSON and the sentences follow each other', async ({ console: page, api }) => {
  await page.goto('/cohorts/new');
  await page.getByText('As JSON, and as a request').click();
  const json = page.getByLabel('Criteria as JSON');
  await json.fill('{"properties": {"type": "AND", "values": [{"type": "AND"}]}}');
  await expect(page.getByText('properties.values[0]: the key "values" needs a list')).toBeVisible();
  await json.fill(JSON.stringify(plan('pro')));
  await expect(page.getByRole('combobox', { name: 'Property' })).toHaveValue('plan');
  const { count } = await api.call('POST', 'cohorts/preview/', { filters: plan('pro') });
  await expectTotal(page, count);
  await page.getByLabel('Comparison', { exact: true }).selectOption('is set');
  await expect(json).toHaveValue(/"is_set"/);
  const other = { type: 'behavioral', key: 'x', event_type: 'events', value: 'of_a_later_version', time_value: 1, time_interval: 'day' };
  await json.fill(JSON.stringify({ properties: { type: 'AND', values: [other] } }));
  await expect(page.getByLabel('Criterion as JSON')).toHaveValue(JSON.stringify(other));
});

test('on a saved cohort, the page shows who would enter, leave and stay', async ({ console: page, api }) => {
  const id = await api.cohort({ name: 'Compared', filters: plan('pro') });
  // The members are those of the last calculation.
  await expect.poll(async () => (await api.call('GET', `cohorts/${id}/`)).last_calculation).not.toBeNull();
  const compared = page.locator('.compared');
  /** Until the page shows what the API answers: the data may change meanwhile. */
  const expectCompared = (value: string) =>
    expect(async () => {
      const answer = await api.call('POST', 'cohorts/preview/', { filters: plan(value), compare_to: id });
      const { entering, leaving, staying } = answer.compared;
      await expect(compared).toContainText(`would enter${shown(entering)}would leave${shown(leaving)}stay${shown(staying)}`);
    }).toPass();
  const shown = (value: number) => value.toLocaleString('en');
  await page.goto(`/cohorts/${id}/edit`);
  await expectCompared('pro');
  await expect(compared).toContainText('would enter0would leave0');
  await page.getByRole('button', { name: 'Remove pro' }).click();
  await page.getByRole('combobox', { name: 'Value' }).fill('free');
  await expectCompared('free');
  await expect(compared).toContainText('stay0');
});

test('a draft survives a reload, and a failed save keeps it', async ({ console: page, expected }) => {
  expected.push(/status of 503/);
  await page.goto('/cohorts/new');
  await page.getByLabel('Name').fill('Not saved yet');
  await page.getByRole('button', { name: 'Property', exact: true }).click();
  await page.getByRole('combobox', { name: 'Property' }).fill('plan');
  await page.getByRole('combobox', { name: 'Value' }).fill('pro');
  await page.reload();
  await expect(page.getByText('These are your unsaved changes.')).toBeVisible();
  await expect(page.getByLabel('Name')).toHaveValue('Not saved yet');
  await expect(page.getByRole('button', { name: 'Remove pro' })).toBeVisible();

  const busy = { type: 'server_error', code: 'unavailable', detail: 'The database is not available; try again in a moment.', attr: null };
  await page.route('**/cohorts/', (route) => (route.request().method() === 'POST' ? route.fulfill({ status: 503, json: busy }) : route.continue()));
  await page.getByRole('button', { name: 'Save cohort' }).click();
  await expect(page.getByText('The service is busy')).toBeVisible();
  await expect(page.getByLabel('Name')).toHaveValue('Not saved yet');
  await page.unroute('**/cohorts/');
  await page.getByRole('button', { name: 'Try again' }).click();
  await expect(page.getByRole('heading', { name: 'Not saved yet' })).toBeVisible();
  await page.goto('/cohorts/new');
  await expect(page.getByText('No criteria yet')).toBeVisible();
});

test('an incomplete criterion is left out of the count, and is marked when saving', async ({ console: page, api }) => {
  await page.goto('/cohorts/new');
  await page.getByRole('button', { name: 'Property', exact: true }).click();
  await page.getByRole('combobox', { name: 'Property' }).fill('plan');
  await page.getByRole('combobox', { name: 'Value' }).fill('pro');
  await page.getByRole('combobox', { name: 'Value' }).press('Enter');
  await page.getByRole('button', { name: 'Event', exact: true }).click();
  const { count } = await api.call('POST', 'cohorts/preview/', { filters: plan('pro') });
  await expectTotal(page, count);
  await expect(page.getByText('Not final: 1 criterion is incomplete.')).toBeVisible();
  await expect(page.getByTestId('total')).toHaveClass(/partial/);
  await expect(page.getByText('To save: enter a name, complete 1 criterion.')).toBeVisible();
  await page.getByRole('button', { name: 'Save cohort' }).click();
  await expect(page.getByText('Enter a name.')).toBeVisible();
  await expect(page.getByRole('alert').filter({ hasText: 'To save: enter a name, complete 1 criterion.' })).toBeVisible();
  await expect(page.getByLabel('Name')).toBeFocused();
  await page.getByLabel('Name').fill('Incomplete');
  await page.getByRole('button', { name: 'Save cohort' }).click();
  await expect(page.getByText('Enter the name of an event.')).toBeVisible();
  await expect(page.getByRole('combobox', { name: 'Event' })).toBeFocused();
});

test('the number of times is a field from the start, and the words decide the form in the filter', async ({ console: page, expected }) => {
  // A filter that is only negative is refused.
  expected.push(/status of 400/);
  await page.goto('/cohorts/new');
  await page.getByText('As JSON, and as a request').click();
  const leaf = async () => JSON.parse(await page.getByLabel('Criteria as JSON').inputValue()).properties.values[0];
  const window = { time_value: 30, time_interval: 'day' };
  const once = { type: 'behavioral', key: 'purchase', event_type: 'events', value: 'performed_event', ...window };
  await page.getByRole('button', { name: 'Event', exact: true }).click();
  await page.getByRole('combobox', { name: 'Event' }).fill('purchase');
  await expect.poll(leaf).toEqual(once);
  const times = page.getByLabel('Number of times');
  await times.click();
  await page.keyboard.type('12');
  await expect.poll(leaf).toEqual({ ...once, value: 'performed_event_multiple', operator: 'gte', operator_value: 12 });
  await expect(times).toBeFocused();
  await times.fill('1');
  await expect.poll(leaf).toEqual(once);
  await page.getByLabel('Comparison of the number').selectOption('exactly');
  await expect.poll(leaf).toEqual({ ...once, value: 'performed_event_multiple', operator: 'exact', operator_value: 1 });
  await page.getByLabel('What they did').selectOption('never did');
  const never = { type: 'behavioral', key: 'purchase', event_type: 'events', value: 'performed_event', explicit_datetime: 'all', negation: true };
  await expect.poll(leaf).toEqual(never);
  await expect(page.getByLabel('Kind of time window')).toHaveCount(0);
  await page.getByLabel('What they did').selectOption('did not do');
  await expect.poll(leaf).toEqual({ ...once, negation: true });
  await page.getByLabel('What they did').selectOption('did');
  await page.getByLabel('Kind of time window').selectOption('at any time');
  await expect.poll(leaf).toEqual({ ...once, explicit_datetime: 'all', time_value: undefined, time_interval: undefined });
});

for (const width of [1600, 1024, 360]) {
  test(`a message lies beside the button that saves at ${width} px`, async ({ console: page }) => {
    await page.setViewportSize({ width, height: 700 });
    await page.goto('/cohorts/new');
    await page.getByRole('button', { name: 'Property', exact: true }).click();
    await page.getByRole('button', { name: 'Remove the criterion' }).click();
    await expect(page.locator('.notice')).toBeVisible();
    const boxes = async () => Promise.all([page.locator('.notice'), page.locator('.builder-side')].map((part) => part.boundingBox()));
    await expect
      .poll(async () => {
        const [notice, side] = await boxes();
        if (!notice || !side) return 'hidden';
        const isBeside = notice.x + notice.width <= side.x || notice.y + notice.height <= side.y || notice.y >= side.y + side.height;
        return isBeside ? 'beside' : 'over';
      })
      .toBe('beside');
  });
}

test('the next key ends the request for the former count', async ({ console: page }) => {
  const ended: string[] = [];
  page.on('requestfailed', (request) => request.url().endsWith('/preview/') && ended.push(request.postData() ?? ''));
  // The first count never arrives.
  let isFirst = true;
  await page.route('**/preview/', (route) => {
    if (isFirst) isFirst = false;
    else void route.continue();
  });
  await page.goto('/cohorts/new');
  await page.getByRole('button', { name: 'Property', exact: true }).click();
  await page.getByRole('combobox', { name: 'Property' }).fill('plan');
  const asked = page.waitForRequest('**/preview/');
  await page.getByRole('combobox', { name: 'Value' }).fill('pr');
  await asked;
  await page.getByRole('combobox', { name: 'Value' }).fill('pro');
  await expect(page.getByTestId('total')).not.toHaveText('–');
  expect(ended).toHaveLength(1);
  expect(ended[0]).toContain('"pr"');
});
