// The console in a browser. Every test fails if the page breaks its Content-Security-Policy, throws, sends a request to
// another host, or puts the key into an address.

import { test as base, expect } from '@playwright/test';
import type { APIRequestContext, Page } from '@playwright/test';

export { expect };

export const KEY = setting('COHORTS_KEY');
export const URL_OF_SERVICE = setting('COHORTS_URL').replace(/\/$/, '');

export function setting(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`set ${name} to that of a running demo`);
  return value;
}

export class Api {
  constructor(
    private readonly request: APIRequestContext,
    readonly project: number,
    readonly token: string,
  ) {}

  static async open(request: APIRequestContext): Promise<Api> {
    const answer = await request.get(`${URL_OF_SERVICE}/api/projects/`, { headers: { authorization: `Bearer ${KEY}` } });
    const [project] = (await answer.json()).results;
    return new Api(request, project.id, project.api_token);
  }

  async call(method: string, path: string, data?: unknown) {
    const answer = await this.request.fetch(`${URL_OF_SERVICE}/api/projects/${this.project}/${path}`, {
      method,
      headers: { authorization: `Bearer ${KEY}` },
      ...(data === undefined ? {} : { data }),
    });
    if (!answer.ok()) throw new Error(`${method} ${path}: ${answer.status()} ${await answer.text()}`);
    return answer.json();
  }

  async cohort(body: object): Promise<number> {
    return (await this.call('POST', 'cohorts/', body)).id;
  }

  async capture(...batch: object[]): Promise<void> {
    const answer = await this.request.post(`${URL_OF_SERVICE}/batch/`, { data: { api_key: this.token, batch } });
    expect(answer.ok()).toBe(true);
  }
}

interface Fixtures {
  api: Api;
  /** A page that is signed in. */
  console: Page;
  /** Problems of the page that a test expects. */
  expected: RegExp[];
}

export const test = base.extend<Fixtures>({
  // The pattern of arguments is required by the test runner.
  expected: async ({}, use) => use([]),
  page: async ({ page, expected }, use) => {
    const problems: string[] = [];
    page.on('pageerror', (error) => problems.push(`error: ${error.message}`));
    page.on('dialog', (dialog) => {
      problems.push(`dialog: ${dialog.message()}`);
      void dialog.dismiss();
    });
    page.on('console', (message) => {
      // A test that loads many pages in a short time has more streams than a key may have; the page waits then.
      const isStream = message.location().url.includes('changes.sse') && /status of 429/.test(message.text());
      if (message.type() === 'error' && !isStream) problems.push(message.text());
    });
    page.on('request', (request) => {
      const url = request.url();
      if (!url.startsWith(`${URL_OF_SERVICE}/`) && !url.startsWith('blob:')) problems.push(`another host: ${url}`);
      if (url.includes(KEY)) problems.push(`the key in an address: ${url}`);
    });
    await use(page);
    expect(problems.filter((problem) => !expected.some((pattern) => pattern.test(problem)))).toEqual([]);
  },
  api: async ({ request }, use) => use(await Api.open(request)),
  console: async ({ page }, use) => {
    await page.addInitScript((key) => sessionStorage.setItem('cohorts.key', key), KEY);
    await use(page);
  },
});

/** A filter with one person criterion. */
export const plan = (value: unknown) => ({ properties: { type: 'AND', values: [{ type: 'person', key: 'plan', operator: 'exact', value }] } });

/** Waits until the number of the builder is that of the API for the filter. */
export async function expectTotal(page: Page, count: number): Promise<void> {
  await expect(page.getByTestId('total')).toHaveText(count.toLocaleString('en'));
}
