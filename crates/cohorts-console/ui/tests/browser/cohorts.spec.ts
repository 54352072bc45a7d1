// Cohorts and lists: search, order, copies, deletion and restoring, files, members by hand, edits and their way back.

import { expect, plan, test } from './console';

test('search and order are in the address, behind #', async ({ console: page }) => {
  await page.goto('/cohorts');
  await page.getByLabel('Search cohorts').fill('quiet');
  await expect(page.locator('table.cohorts tbody tr')).toHaveCount(2);
  await page.getByRole('button', { name: 'Members', exact: true }).click();
  expect(new URL(page.url()).search).toBe('');
  await page.reload();
  await expect(page.getByLabel('Search cohorts')).toHaveValue('quiet');
  await expect(page.locator('table.cohorts tbody tr')).toHaveCount(2);
  await page.getByLabel('Search cohorts').fill('no such cohort');
  await expect(page.getByRole('heading', { name: 'No cohort matches' })).toBeVisible();
});

test('a deletion shows the uses first, and can be undone', async ({ console: page, api }) => {
  const used = await api.cohort({ name: 'Used elsewhere', filters: plan('pro') });
  const leaf = { type: 'cohort', key: 'id', value: used };
  const user = await api.cohort({ name: 'The user of it', filters: { properties: { type: 'AND', values: [leaf] } } });
  await page.goto(`/cohorts/${used}`);
  await page.getByRole('button', { name: 'Delete …' }).click();
  await expect(page.getByRole('dialog').getByRole('link', { name: 'The user of it' })).toBeVisible();
  await expect(page.getByRole('dialog').getByRole('button', { name: 'Delete' })).toBeDisabled();
  await api.call('PATCH', `cohorts/${user}/`, { deleted: true });
  await page.getByRole('button', { name: 'Keep it' }).click();
  await page.getByRole('button', { name: 'Delete …' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await expect(page).toHaveURL(/\/cohorts$/);
  await page.getByRole('button', { name: 'Undo' }).click();
  await expect(page.getByRole('heading', { name: 'Used elsewhere' })).toBeVisible();
  await api.call('PATCH', `cohorts/${used}/`, { deleted: true });
  await page.goto('/cohorts#show=deleted');
  await page.getByRole('row', { name: /Used elsewhere/ }).getByRole('button', { name: 'Restore' }).click();
  await expect(page.getByText('“Used elsewhere” is back.')).toBeVisible();
  expect((await api.call('GET', `cohorts/${used}/`)).deleted).toBe(false);
});

test('an edit of the criteria can be taken back', async ({ console: page, api }) => {
  const id = await api.cohort({ name: 'Changed twice', filters: plan('pro') });
  await api.call('PATCH', `cohorts/${id}/`, { filters: plan('free') });
  await page.goto(`/cohorts/${id}/activity`);
  await expect(page.getByText('plan is pro')).toBeVisible();
  await page.getByRole('button', { name: 'Go back to before' }).first().click();
  await expect(page.getByText('The former state is back.')).toBeVisible();
  const { filters } = await api.call('GET', `cohorts/${id}/`);
  expect(filters.properties.values[0].value).toBe('pro');
});

test('a copy of the criteria begins in the builder, unsaved', async ({ console: page, api }) => {
  const id = await api.cohort({ name: 'Original', filters: plan('pro') });
  await page.goto(`/cohorts/${id}`);
  await page.getByRole('button', { name: 'Copy', exact: true }).click();
  await expect(page.getByLabel('Name')).toHaveValue('Original (copy)');
  await expect(page.getByRole('button', { name: 'Remove pro' })).toBeVisible();
});

test('a file becomes a list, with the rows to correct', async ({ console: page, api }) => {
  await api.capture(
    { event: 'x', distinct_id: 'file-1', properties: { $set: { email: 'file-1@example.org' } } },
    { event: 'x', distinct_id: 'file-2', properties: { $set: { email: 'file-2@example.org' } } },
  );
  const text = 'who;address\nOne;file-1@example.org\n"Two; too";FILE-2@example.org\nNone;unknown@example.org\n';
  await page.goto('/lists/new');
  await page.locator('input[type=file]').setInputFiles({ name: 'Invited.csv', mimeType: 'text/csv', buffer: Buffer.from(text) });
  await expect(page.getByRole('button', { name: 'Upload' })).toBeDisabled();
  await page.getByLabel('Meaning of address').selectOption('e-mail address');
  await page.getByRole('button', { name: 'Upload' }).click();
  await expect(page.getByRole('heading', { name: '2 persons added' })).toBeVisible();
  await expect(page.getByRole('cell', { name: 'unknown@example.org' })).toBeVisible();
  const [saved] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'As a file' }).click()]);
  expect(saved.suggestedFilename()).toBe('Invited-to-correct.csv');
  const content = await (await import('node:fs/promises')).readFile(await saved.path(), 'utf8');
  expect(content).toMatch(/^who,address,problem\r\nNone,unknown@example\.org,/);
  await page.getByRole('link', { name: 'Show the list' }).click();
  await expect(page.getByRole('heading', { name: 'Invited' })).toBeVisible();
  await expect(page.getByText('2 members').first()).toBeVisible();
});

test('persons are added and removed by hand', async ({ console: page, api }) => {
  await api.capture({ event: 'x', distinct_id: 'by-hand', properties: { $set: { email: 'by-hand@example.org' } } });
  const id = await api.cohort({ name: 'By hand', is_static: true });
  await page.goto(`/cohorts/${id}`);
  await page.getByRole('button', { name: 'Add persons' }).first().click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Search persons').fill('by-hand');
  await dialog.getByLabel('by-hand@example.org').check();
  await dialog.getByRole('button', { name: 'Add 1 person' }).click();
  await expect(page.locator('.big-row a', { hasText: 'by-hand@example.org' })).toBeVisible();
  await page.getByRole('button', { name: 'Remove by-hand@example.org' }).click();
  await expect(page.getByRole('heading', { name: 'The list is empty' })).toBeVisible();
});

test('members are exported', async ({ console: page }) => {
  await page.goto('/cohorts/1');
  for (const [words, ending] of [['CSV', 'csv'], ['NDJSON', 'ndjson']] as const) {
    await page.getByText('Export', { exact: true }).click();
    const [saved] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: words, exact: false }).first().click()]);
    expect(saved.suggestedFilename()).toBe(`Paying customers.${ending}`);
  }
});

test('a query with an error shows its place, and can be changed later', async ({ console: page, expected }) => {
  expected.push(/status of 400/);
  await page.goto('/queries/new');
  await page.getByLabel('Name').fill('By query');
  await page.getByLabel('Query', { exact: true }).fill('SELECT person_id\nFRM events');
  await page.getByRole('button', { name: 'Save cohort' }).click();
  await expect(page.getByText('The query cannot be used: line 2')).toBeVisible();
  await page.getByLabel('Query', { exact: true }).fill("SELECT person_id FROM events WHERE event = 'purchase'");
  await page.getByRole('button', { name: 'Save cohort' }).click();
  await expect(page.getByRole('heading', { name: 'By query' })).toBeVisible();
  await page.getByRole('link', { name: 'Edit query' }).click();
  await expect(page.getByLabel('Query', { exact: true })).toHaveValue(/purchase/);
  await page.getByLabel('Query', { exact: true }).fill("SELECT person_id FROM events WHERE event = 'login'");
  await page.getByRole('button', { name: 'Save changes' }).click();
  await page.getByRole('link', { name: 'Query', exact: true }).click();
  await expect(page.getByText("event = 'login'")).toBeVisible();
});

test('a cohort by a query has its query in the list, and a sentence for a person in it or not', async ({ console: page, api }) => {
  const query = { kind: 'HogQLQuery', query: "SELECT id FROM persons\nWHERE properties.plan = 'pro'" };
  const id = await api.cohort({ name: 'Listed query', query });
  await page.goto('/cohorts');
  const row = page.getByRole('row', { name: /Listed query/ });
  await expect(row).toContainText("Follows the query: SELECT id FROM persons WHERE properties.plan = 'pro'");
  await expect(row.locator('.today')).toHaveText('new');
  for (const [plan, words] of [['pro', 'The query selects this person.'], ['free', 'The query does not select this person.']]) {
    const properties = JSON.stringify([{ key: 'plan', value: plan }]);
    const { results } = await api.call('GET', `persons/?limit=1&properties=${encodeURIComponent(properties)}`);
    await page.goto(`/people#id=${results[0].id}&from=${id}&why=${id}`);
    await expect(page.locator('.why')).toContainText(words ?? '');
    await expect(page.locator('.why')).toContainText('WHERE properties.plan');
    await expect(page.getByRole('navigation', { name: 'Path' }).getByRole('link', { name: 'Listed query' })).toBeVisible();
  }
});

test('at 360 px, the reason is above the properties of a person who is not on a list', async ({ console: page, api }) => {
  const id = await api.cohort({ name: 'Nobody invited', is_static: true });
  const { results } = await api.call('GET', 'persons/?limit=1');
  await page.setViewportSize({ width: 360, height: 700 });
  await page.goto(`/people#id=${results[0].id}&from=${id}&why=${id}`);
  await expect(page.locator('.why')).toContainText('The cohort is a list, and this person is not on it.');
  const top = (name: string) => page.getByRole('heading', { name, exact: true }).evaluate((heading) => heading.getBoundingClientRect().top);
  await expect.poll(async () => (await top('Cohorts')) < (await top('Properties'))).toBe(true);
  await page.goto(`/people#id=${results[0].id}`);
  await expect(page.getByRole('navigation', { name: 'Path' }).getByRole('link', { name: 'People' })).toBeVisible();
  await expect.poll(async () => (await top('Properties')) < (await top('Cohorts'))).toBe(true);
});

test('addresses and dates of members fit at 1,024 px', async ({ console: page, api }) => {
  const mark = `wide-${Date.now()}`;
  const email = `anders.fischer@${mark}.example`;
  await api.capture({ event: '$set', distinct_id: mark, properties: { $set: { email, plan: 'enterprise', signed_up: '2026-11-28' } } });
  await page.setViewportSize({ width: 1024, height: 900 });
  await page.goto('/cohorts/1');
  const cut = () => page.locator('.big-row:not(.head) > div').evaluateAll((cells) => cells.filter((cell) => cell.scrollWidth > cell.clientWidth).map((cell) => cell.textContent));
  await expect(page.getByRole('link', { name: email })).toBeVisible();
  await expect.poll(cut).toEqual([]);
});

test('a million members scroll to the last one, with few rows on the page', async ({ console: page }) => {
  const total = 1_000_000;
  const asked: number[] = [];
  await page.route('**/cohorts/1/persons/?*', (route) => {
    const query = new URL(route.request().url()).searchParams;
    const [offset, limit] = [Number(query.get('offset')), Number(query.get('limit'))];
    asked.push(offset);
    const results = Array.from({ length: Math.min(limit, total - offset) }, (_, at) => ({
      id: `person-${offset + at}`, uuid: '', name: `Person ${offset + at}`, distinct_ids: [], properties: {}, created_at: '2026-01-01T00:00:00Z',
    }));
    return route.fulfill({ json: { results, next: null, previous: null, count: total } });
  });
  await page.goto('/cohorts/1');
  const table = page.getByRole('table', { name: /Members/ });
  await expect(table).toHaveAttribute('aria-rowcount', String(total + 1));
  await expect(page.getByRole('link', { name: 'Person 0', exact: true })).toBeVisible();
  await table.focus();
  await page.keyboard.press('End');
  await expect(page.getByRole('link', { name: `Person ${total - 1}`, exact: true })).toBeVisible();
  await page.keyboard.press('PageUp');
  await expect(page.getByRole('link', { name: `Person ${total - 30}`, exact: true })).toBeAttached();
  await table.evaluate((element) => element.scrollTo({ top: element.scrollHeight / 2 }));
  await expect(page.locator('.big-row a').first()).toContainText(/^Person (4|5)\d{5}$/);
  await page.keyboard.press('Home');
  await expect(page.getByRole('link', { name: 'Person 0', exact: true })).toBeVisible();
  expect(await page.locator('.big-row').count()).toBeLessThan(80);
  expect(asked.length).toBeLessThan(40);
});
