// The keyboard alone: sign in, build a cohort, save it, and delete it. The focus is always visible.

import type { Page } from '@playwright/test';
import { KEY, expect, test } from './console';

/** Presses Tab until the focused element has the name, and asserts that the focus is visible. */
async function tabTo(page: Page, name: string, key = 'Tab'): Promise<void> {
  for (let presses = 0; presses < 60; presses += 1) {
    await page.keyboard.press(key);
    const focused = await page.evaluate(() => {
      const element = document.activeElement as HTMLElement | null;
      const label = element?.getAttribute('aria-label') ?? (element as HTMLInputElement | null)?.labels?.[0]?.textContent ?? element?.textContent ?? '';
      return { label: label.trim(), outline: element ? getComputedStyle(element).outlineStyle : 'none' };
    });
    if (focused.label !== name) continue;
    expect(focused.outline, name).not.toBe('none');
    return;
  }
  throw new Error(`no element with the name ${name}`);
}

test('a cohort is built, saved and deleted with the keyboard', async ({ page }) => {
  await page.goto('/');
  await tabTo(page, 'Personal key');
  await page.keyboard.type(KEY);
  await page.keyboard.press('Enter');
  await expect(page.getByRole('link', { name: 'New cohort' })).toBeVisible();
  await tabTo(page, 'New cohort');
  await page.keyboard.press('Enter');
  await tabTo(page, 'Name');
  await page.keyboard.type('With the keyboard');
  await tabTo(page, 'Property');
  await page.keyboard.press('Enter');
  // The field of the new criterion has the focus.
  await expect(page.getByRole('combobox', { name: 'Property' })).toBeFocused();
  await page.keyboard.type('pla');
  await expect(page.getByRole('option', { name: 'plan' })).toBeVisible();
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('Enter');
  await expect(page.getByRole('combobox', { name: 'Property' })).toHaveValue('plan');
  await expect(page.getByRole('combobox', { name: 'Value' })).toBeFocused();
  await page.keyboard.type('pr');
  await expect(page.locator('[role=option]').first()).toBeVisible();
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('Enter');
  await expect(page.getByRole('button', { name: 'Remove pro' })).toBeVisible();
  await tabTo(page, 'Save cohort');
  await page.keyboard.press('Enter');
  await expect(page.getByRole('heading', { name: 'With the keyboard' })).toBeVisible();
  await tabTo(page, 'Delete …');
  await page.keyboard.press('Enter');
  await expect(page.getByRole('dialog')).toBeVisible();
  await page.keyboard.press('Escape');
  await expect(page.getByRole('dialog')).toBeHidden();
  await expect(page.getByRole('button', { name: 'Delete …' })).toBeFocused();
  await page.keyboard.press('Enter');
  await expect(page.getByText('No other cohort uses it.')).toBeVisible();
  await tabTo(page, 'Delete');
  await page.keyboard.press('Enter');
  await expect(page).toHaveURL(/\/cohorts$/);
});

test('a menu closes with Escape, with a press elsewhere and after an action, and stays open for choices', async ({ console: page }) => {
  await page.goto('/cohorts/1');
  const [button, email] = [page.locator('summary', { hasText: 'Columns' }), page.getByLabel('email', { exact: true })];
  await button.click();
  await page.getByText('email', { exact: true }).click();
  await expect(email).toBeChecked();
  await page.keyboard.press('Escape');
  await expect(email).toBeHidden();
  await expect(button).toBeFocused();
  await button.click();
  await page.getByRole('heading', { level: 1 }).click();
  await expect(email).toBeHidden();
  await page.goto('/cohorts');
  const actions = page.getByLabel('Actions for Paying customers');
  await actions.click();
  await page.getByRole('button', { name: 'Delete …' }).click();
  await page.getByRole('button', { name: 'Keep it' }).click();
  await expect(actions).toBeFocused();
});
