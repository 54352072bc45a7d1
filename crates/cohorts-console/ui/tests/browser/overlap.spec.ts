// The matrix of common members with the numbers of the API, differences as new cohorts, and the lines in the list of cohorts.

import { expect, expectTotal, plan, test } from './console';

test('the matrix has the numbers of the API, and a difference becomes a cohort', async ({ console: page, api }) => {
  const ids = [await api.cohort({ name: 'Pro or free', filters: plan(['pro', 'free']) }), await api.cohort({ name: 'Free or starter', filters: plan(['free', 'starter']) })];
  for (const id of ids) await expect.poll(async () => (await api.call('GET', `cohorts/${id}/`)).last_calculation).not.toBeNull();
  await page.goto('/cohorts');
  await page.getByRole('link', { name: 'Overlap' }).click();
  await expect(page.getByRole('heading', { name: 'Choose two cohorts' })).toBeVisible();
  await page.getByLabel('Search cohorts').fill('or free');
  await page.getByLabel('Pro or free').first().check();
  await page.getByLabel('Search cohorts').fill('or starter');
  await page.getByLabel('Free or starter').first().check();
  expect(new URL(page.url()).search).toBe('');

  const { counts, intersections } = await api.call('POST', 'cohorts/overlap/', { cohort_ids: ids });
  const [common, onlyFirst] = [intersections[0][1], counts[0] - intersections[0][1]];
  expect(common).toBeGreaterThan(0);
  expect(onlyFirst).toBeGreaterThan(0);
  const words = (count: number) => (count === 1 ? '1 person' : `${count.toLocaleString('en')} persons`);
  const cell = page.getByRole('button', { name: `${words(common)} of Pro or free in Free or starter` });
  await cell.click();
  await page.reload();
  await expect(cell).toHaveAttribute('aria-pressed', 'true');
  const difference = page.getByRole('region', { name: 'Difference' });
  await expect(difference.getByRole('listitem').first()).toContainText(words(onlyFirst));
  await difference.getByRole('button', { name: 'New cohort: Only in Pro or free' }).click();
  await expect(page.getByLabel('Name')).toHaveValue('Pro or free, not Free or starter');
  await expectTotal(page, onlyFirst);
  await page.goBack();
  await page.getByRole('button', { name: 'Choose none' }).click();
  await expect(page.getByRole('heading', { name: 'Choose two cohorts' })).toBeVisible();
});

test('what distinguishes a cohort has the shares of the API', async ({ console: page, api }) => {
  const [paying, free] = [1, await api.cohort({ name: 'Only free', filters: plan('free') })];
  await expect.poll(async () => (await api.call('GET', `cohorts/${free}/`)).last_calculation).not.toBeNull();
  const { inside, outside, properties, events } = await api.call('POST', `cohorts/${paying}/compare/`, { with: free });
  await page.goto(`/overlap#ids=${paying},${free}&pair=${paying},${free}`);
  const panel = page.getByRole('region', { name: 'What differs' });
  await expect(panel).toContainText(`${inside.toLocaleString('en')} members inside. ${outside.toLocaleString('en')} outside`);
  const property = properties.find(({ key }: { key: string }) => key === 'plan');
  const shares = panel.getByRole('region', { name: 'Differences of properties' });
  for (const { value, lift } of property.values) {
    const row = shares.getByRole('row').filter({ has: page.getByRole('rowheader', { name: value, exact: true }) }).first();
    await expect(row).toContainText(lift === null ? 'only inside' : lift === 0 ? 'only outside' : '×');
  }
  const share = (part: number, whole: number) => (part * 100) / whole;
  const row = panel.getByRole('region', { name: 'Differences of events' }).getByRole('row').filter({ hasText: events[0].event }).first();
  const shown = (await row.getByRole('cell').allTextContents()).map((text) => Number.parseFloat(text));
  expect(Math.abs((shown[0] ?? -1) - share(events[0].inside, inside))).toBeLessThanOrEqual(0.5);
  expect(Math.abs((shown[1] ?? -1) - share(events[0].outside, outside))).toBeLessThanOrEqual(0.5);

  await page.getByRole('button', { name: 'Compare the other way round' }).click();
  await expect(panel).toContainText('What distinguishes Only free from Paying customers');
  await page.getByRole('button', { name: / of Paying customers$/ }).click();
  await expect(panel).toContainText('What distinguishes Paying customers from everyone else');
  await expect(panel.getByRole('region', { name: 'Differences of properties' })).toBeVisible();
});

test('a key without person:read is told so, and one cohort is not compared', async ({ console: page, expected }) => {
  expected.push(/status of 403/);
  const refusal = { type: 'x', code: 'permission_denied', detail: "API key missing required scope 'person:read'", attr: null };
  await page.route('**/cohorts/overlap/', (route) => route.fulfill({ status: 403, json: refusal }));
  await page.goto('/overlap#ids=1,7');
  await expect(page.getByRole('alert')).toContainText('The key lacks the scope person:read');
  await page.route('**/cohorts/?*', (route) => route.fulfill({ json: { count: 0, next: null, previous: null, results: [] } }));
  await page.goto('/overlap');
  await page.reload();
  await expect(page.getByRole('heading', { name: 'Nothing to compare yet' })).toBeVisible();
});

test('the list shows the size over two weeks and who entered today, one request at a time', async ({ console: page }) => {
  let [open, most] = [0, 0];
  await page.route('**/sizes/?*', async (route) => {
    open += 1;
    most = Math.max(most, open);
    const day = (at: number) => ({ at: `2026-01-0${at}T00:00:00Z`, count: at * 10, entered: at === 3 ? 7 : null, left: at === 3 ? 2 : null });
    await route.fulfill({ json: { results: [1, 2, 3].map(day), evaluated_before: null, uses_current_properties: false } });
    open -= 1;
  });
  // One of both cohorts is older than today.
  await page.route(/\/cohorts\/\?/, async (route) => {
    const page = await (await route.fetch()).json();
    const results = page.results.map((cohort: { name: string }) => (cohort.name === 'Gone quiet' ? { ...cohort, created_at: '2026-01-01T00:00:00Z' } : cohort));
    await route.fulfill({ json: { ...page, results } });
  });
  await page.goto('/cohorts#search=quiet');
  await expect(page.getByRole('img', { name: /^Size in 3 days: from 10 to / })).toHaveCount(2);
  await expect(page.getByRole('row', { name: /^Gone quiet/ }).locator('.today')).toHaveText('+7 −2');
  await expect(page.getByRole('row', { name: /^Paying and gone quiet/ }).locator('.today')).toHaveText('new');
  expect(most).toBe(1);
});
