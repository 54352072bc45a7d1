// Tests in a real browser against a running demo: COHORTS_URL and COHORTS_KEY name it. The browser is that of the machine.
import { defineConfig } from '@playwright/test';

export default defineConfig({
  testDir: 'tests/browser',
  outputDir: process.env.COHORTS_TEST_OUTPUT ?? 'node_modules/.cache/playwright',
  reporter: 'line',
  fullyParallel: false,
  workers: 1,
  // Further attempts tell a slow machine from a defect.
  retries: 2,
  forbidOnly: true,
  // For machines with few cores that do other work.
  timeout: 180_000,
  expect: { timeout: 45_000 },
  use: {
    baseURL: process.env.COHORTS_URL ?? 'http://127.0.0.1:8000',
    browserName: 'chromium',
    viewport: { width: 1280, height: 900 },
    launchOptions: {
      executablePath: process.env.COHORTS_TEST_CHROMIUM ?? '/usr/bin/chromium',
      args: ['--no-sandbox', '--disable-dev-shm-usage'],
    },
  },
});
