// The picture of the README, from a running demo: node screenshots.mjs ADDRESS, where the address signs in by a code.
import { statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { chromium } from '@playwright/test';

const file = fileURLToPath(new URL('../console.png', import.meta.url));
/** Pictures are part of the repository. */
const LIMIT = 120 << 10;
const COHORT = 'Bought, never surveyed on leaving';

const [address] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.COHORTS_TEST_CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-dev-shm-usage'],
});
try {
  const page = await browser.newPage({ viewport: { width: 1200, height: 640 }, colorScheme: 'light', reducedMotion: 'reduce' });
  await page.goto(address);
  const cohort = page.getByRole('link', { name: COHORT, exact: true });
  const path = new URL(await cohort.getAttribute('href'), address).pathname;
  await page.goto(`${new URL(address).origin}${path}/edit`);
  // The counts are those of the service: the whole, and each criterion.
  await page.locator('[data-testid=total]:not(.pending)').getByText(/^[\d,]+$/).waitFor();
  await page.locator('[data-testid=criterion-count]').getByText(/^[\d,]+$/).first().waitFor();
  await page.locator('.compared').waitFor();
  await page.screenshot({ path: file });
} finally {
  await browser.close();
}
const { size } = statSync(file);
console.log(`${file}: ${size} bytes, at most ${LIMIT}`);
if (size > LIMIT) process.exitCode = 1;
