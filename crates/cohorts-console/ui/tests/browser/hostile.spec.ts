// Hostile names in every field: they are shown as text, and break no layout.

import type { Page } from '@playwright/test';
import { expect, test } from './console';

const NAMES = [
  '<img src=x onerror=alert(1)>',
  '"><script>alert(1)</script>',
  'javascript:alert(1)',
  '\u202Egnirts tfel-ot-thgir\u202C مرحبا',
  'line\nbreak\tand tab',
  '\u{1F3F4}\u{E0067}\u{E0062} \u{1F469}\u200D\u{1F4BB} z\u0351\u0343\u0344',
  'w'.repeat(390),
];
const LONG = 'x'.repeat(10_000);
const WIDTHS = [360, 1280];

/** Pixels by which the page is wider than the window, after the layout for its size. */
const excess = (page: Page) =>
  page.evaluate(async () => {
    const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
    await frame();
    await frame();
    return document.documentElement.scrollWidth - window.innerWidth;
  });

test('names of cohorts, properties, events and persons are only text', async ({ console: page, api }) => {
  test.slow();
  const persons = NAMES.map((name, at) => ({
    event: `event ${name}`,
    distinct_id: `hostile-${at} ${name}`.slice(0, 190),
    properties: { $set: { email: `${name}@example.org`, [`property ${name}`]: name, long: LONG, nested: { [name]: [name, LONG] } } },
  }));
  await api.capture(...persons);
  const ids: number[] = [];
  for (const name of NAMES) {
    const person = { type: 'person', key: `property ${name}`, operator: 'exact', value: [name, LONG] };
    const did = { type: 'behavioral', key: `event ${name}`, event_type: 'events', value: 'performed_event', time_value: 3, time_interval: 'day', event_filters: [{ type: 'event', key: name, operator: 'is_not', value: name }] };
    const filters = { properties: { type: 'AND', values: [person, { type: 'OR', values: [did] }] } };
    ids.push(await api.cohort({ name, description: name, filters }));
  }
  const { results } = await api.call('GET', 'persons/?search=hostile-&limit=20');
  expect(results.length).toBe(NAMES.length);
  const paths = ['/cohorts', '/people', `/overlap#ids=${ids.join()}&pair=${ids[0]},${ids[5]}`, ...ids.flatMap((id) => [`/cohorts/${id}`, `/cohorts/${id}/criteria`, `/cohorts/${id}/activity`, `/cohorts/${id}/edit`]), ...results.map(({ id }: { id: string }) => `/people#id=${id}`)];
  for (const path of paths) {
    await page.goto(path);
    await expect(page.locator('h1').first()).toBeVisible();
    await expect(page.locator('.spinner, .pending')).toHaveCount(0);
    expect(await page.locator('main img, main script').count(), path).toBe(0);
    for (const width of WIDTHS) {
      await page.setViewportSize({ width, height: 800 });
      expect(await excess(page), `${path} at ${width} px`).toBeLessThanOrEqual(0);
    }
  }
  await page.goto('/cohorts');
  for (const name of NAMES) {
    await expect(page.locator('table.cohorts .name a').filter({ hasText: name.replace(/\s+/g, ' ') }).first()).toBeVisible();
  }
  await page.setViewportSize({ width: 360, height: 800 });
  await page.goto('/cohorts/new');
  await page.getByRole('button', { name: 'Event', exact: true }).click();
  await page.getByRole('combobox', { name: 'Event' }).fill('event ');
  for (const name of NAMES) {
    // The service shortens the name of an event to 200 characters.
    await expect(page.getByRole('option').filter({ hasText: name.replace(/\s+/g, ' ').slice(0, 150) }).first()).toBeVisible();
  }
  expect(await excess(page), 'suggestions').toBeLessThanOrEqual(0);
});
