// The page at /ui/ in Chromium, before the real services.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { chromium } from 'playwright-core';
import { Component, TOKEN } from '../../services/gateway-svc/component.mjs';

const PATIENCE = { timeout: 30_000 };

describe('the page', () => {
  let c, browser, profile, problems;

  before(async () => {
    c = await Component.start({ real: true });
    profile = mkdtempSync('/tmp/sa-chromium-');
    browser = await chromium.launch({
      executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
      headless: true,
      args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
        '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage'],
      env: { ...process.env, HOME: profile, XDG_CONFIG_HOME: profile, XDG_CACHE_HOME: profile },
    });
    problems = [];
  });
  after(async () => {
    await browser?.close();
    await c?.stop();
    rmSync(profile, { recursive: true, force: true });
  });

  // A person with a browser of their own.
  async function open(path, { name = 'Ada Lovelace', ...options } = {}) {
    const context = await browser.newContext({ viewport: { width: 1200, height: 800 }, ...options });
    await context.addInitScript(([token, who]) => {
      sessionStorage.setItem('token', token);
      localStorage.setItem('name', who);
    }, [TOKEN, name]);
    const page = await context.newPage();
    page.on('pageerror', (error) => problems.push(error.message));
    page.on('console', (m) => m.type() === 'error' && problems.push(m.text()));
    page.on('request', (r) => r.url().startsWith(c.http.url) || r.url().startsWith('data:') || problems.push(`request to ${r.url()}`));
    await page.goto(c.http.url + path);
    return page;
  }
  // Not innerText: that of a row which Chromium has not drawn yet (content-visibility) is empty.
  const rows = (page) => page.locator('.row').evaluateAll((all) => all.map((r) => `${r.className}|${r.textContent}`));
  const prompt = async (page, text) => {
    await page.locator('#prompt').fill(text);
    await page.locator('#prompt').press('Enter');
  };
  const ends = (page, n = 1) => page.locator('.row.end').nth(n - 1).waitFor(PATIENCE);
  const shot = (page, name) => process.env.TEST_UNDECLARED_OUTPUTS_DIR && page.screenshot({ path: join(process.env.TEST_UNDECLARED_OUTPUTS_DIR, `${name}.png`) });

  test('asks for the token, and says when it is wrong', async () => {
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(`${c.http.url}/ui/`);
    await page.locator('#token').fill('wrong');
    await page.locator('#token').press('Enter');
    await page.locator('#wrong').waitFor(PATIENCE);
    await page.locator('#token').fill(TOKEN);
    await page.locator('#token').press('Enter');
    await page.locator('#agent option[value=mock]').waitFor({ ...PATIENCE, state: 'attached' });
    assert.equal(page.url(), `${c.http.url}/ui/`, 'the token is in no address');
    await context.close();
  });

  test('makes a session, sends a prompt and shows the answer', async () => {
    const page = await open('/ui/');
    await page.locator('#agent').selectOption('mock', PATIENCE);
    await page.locator('#create button').click();
    await page.waitForURL(/\/ui\/sessions\/[0-9a-z]{26}$/, PATIENCE);
    await prompt(page, 'hello there');
    await ends(page);
    const all = (await rows(page)).join('\n');
    assert.match(all, /user\|hello there/);
    assert.match(all, /agent\|[^]*hello there/);
    await page.locator('#sessions a[aria-current=page]').waitFor(PATIENCE);
    await page.context().close();
  });

  test('shows two people the same rows, live and after a reload in the middle of a turn', async () => {
    const id = await c.create();
    const ada = await open(`/ui/sessions/${id}`);
    const bob = await open(`/ui/sessions/${id}`, { name: 'Bob Moore', colorScheme: 'dark' });
    await ada.locator('#members span').nth(1).waitFor(PATIENCE);
    await prompt(ada, 'PLAN look, then write\nTHINK where to begin\nTICK 200 5\nWRITE /tmp/none/x text');
    await bob.getByText('tick 20').first().waitFor(PATIENCE);
    await bob.reload();
    await ends(ada);
    await ends(bob);
    assert.deepEqual(await rows(bob), await rows(ada));
    assert.match((await rows(bob)).join('\n'), /tick 200/);
    await shot(ada, 'light');
    await shot(bob, 'dark');
    await ada.context().close();
    await bob.context().close();
  });

  test('lets one answer a permission, and shows the other who did', async () => {
    const id = await c.create();
    const ada = await open(`/ui/sessions/${id}`);
    const bob = await open(`/ui/sessions/${id}`, { name: 'Bob Moore' });
    await prompt(ada, 'PERMISSION');
    const button = bob.locator('.row.permission button:not(.reject)').first();
    await button.waitFor(PATIENCE);
    await shot(bob, 'permission');
    assert.equal(await bob.locator('#dock button').count(), 0, 'it is in sight');
    await button.click();
    await ends(ada);
    const card = ada.locator('.row.permission.done');
    await card.waitFor(PATIENCE);
    assert.match(await card.textContent(), /owner/);
    assert.equal(await ada.locator('#dock button').count(), 0);
    await ada.context().close();
    await bob.context().close();
  });

  test('keeps a question in sight when the reader looks elsewhere', async () => {
    const id = await c.create();
    const page = await open(`/ui/sessions/${id}`);
    await prompt(page, 'TICK 100\nPERMISSION\nTICK 1');
    await page.locator('.row.permission button').first().waitFor(PATIENCE);
    // Only who is shown the end can look elsewhere: Chromium has drawn the hundred lines once it is there.
    await page.waitForFunction(() => document.getElementById('scroll').scrollTop > 200, undefined, PATIENCE);
    await page.locator('#scroll').evaluate((node) => node.scrollTo(0, 0));
    await page.locator('#dock button').first().click(PATIENCE);
    await page.locator('#more').waitFor(PATIENCE);
    await page.locator('.row.permission.done').waitFor({ ...PATIENCE, state: 'attached' });
    await page.locator('#more').click();
    await ends(page);
    await page.context().close();
  });

  test('cancels a turn and ends a session', async () => {
    const id = await c.create();
    const page = await open(`/ui/sessions/${id}`);
    await prompt(page, 'HANG');
    await page.locator('#cancel').click(PATIENCE);
    await ends(page);
    assert.match(await page.locator('.row.end').textContent(), /cancelled/);
    await page.locator('#destroy').click();
    await page.locator('#link').filter({ hasText: 'closed' }).waitFor(PATIENCE);
    assert.equal(await page.locator('#composer').isVisible(), false);
    await page.context().close();
  });

  test('goes on by itself when the gateway is killed and comes back', async () => {
    const id = await c.create();
    const first = await c.startGateway([], { place: '2' });
    const page = await open(`/ui/sessions/${id}`);
    const there = await browser.newContext();
    await there.addInitScript((token) => sessionStorage.setItem('token', token), TOKEN);
    const other = await there.newPage();
    await other.goto(`${first.url}/ui/sessions/${id}`);
    await prompt(page, 'TICK 300 5');
    await other.getByText('tick 10').first().waitFor(PATIENCE);
    await first.service.end('SIGKILL');
    await other.locator('#link').filter({ hasText: /offline|connecting/ }).waitFor(PATIENCE);
    await c.startGateway([], { place: '2', port: first.port });
    await ends(page);
    await ends(other);
    assert.deepEqual(await rows(other), await rows(page));
    await there.close();
    await page.context().close();
  });

  test('takes ten thousand events without falling behind', async () => {
    const id = await c.create();
    const page = await open(`/ui/sessions/${id}`);
    const begin = performance.now();
    await prompt(page, 'BURST 10000');
    await ends(page);
    const live = performance.now() - begin;
    await page.reload();
    const again = performance.now();
    await ends(page);
    console.log(`10000 events: live ${live.toFixed(0)} ms, after a reload ${(performance.now() - again).toFixed(0)} ms`);
    assert.match((await rows(page)).join('\n'), /tick 10000|10000/);
    await page.context().close();
  });

  test('shows what agents write as text, never as HTML', async () => {
    const id = await c.create();
    const page = await open(`/ui/sessions/${id}`);
    await prompt(page, '<img src=x onerror="document.title=1"><b>bold</b>');
    await ends(page);
    assert.match((await rows(page)).join('\n'), /<b>bold<\/b>/);
    assert.equal(await page.locator('.row img, .row b').count(), 0);
    await page.context().close();
  });

  test('asked nothing of anybody else, and nothing went wrong', () => {
    assert.deepEqual(problems.filter((p) => !/Failed to load resource|ERR_|network/i.test(p)), []);
  });
});
