import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { chromium, type Browser, type Page } from 'playwright-core';
import { killProcess, restartProcess } from '../../local/index.js';
import { useStack } from '../support/stack.js';
import { makeImages, type Images } from './images.js';
import { createUploads, type Uploads } from './uploads.js';
import { assertSameDisk, createWorld, eventually, type World } from './world.js';

/** Without these Chromium looks for its maker's hosts at every start. */
const QUIET = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** Slow enough to interrupt, in bytes a second. */
const UPLOAD_RATE = 24 * 1024 * 1024;

describe('the upload page in a browser', function () {
  this.timeout(180_000);
  const stack = useStack();
  let world: World;
  let uploads: Uploads;
  let images: Images;
  let browser: Browser;
  let page: Page;
  let namespace: string;

  before(async () => {
    world = createWorld(stack);
    uploads = createUploads(stack, world);
    images = await makeImages({ sizeMiB: 192, dataMiB: 160 });
    namespace = await world.createNamespace('upload-page');
    const executablePath = execFileSync(
      'sh',
      ['-c', 'command -v chromium || command -v chromium-browser || command -v google-chrome'],
      { encoding: 'utf8' },
    ).trim();
    browser = await chromium.launch({ executablePath, args: QUIET });
    const context = await browser.newContext({
      ignoreHTTPSErrors: true,
      viewport: { width: 800, height: 560 },
    });
    page = await context.newPage();
    const session = await context.newCDPSession(page);
    await session.send('Network.enable');
    await session.send('Network.emulateNetworkConditions', {
      offline: false,
      latency: 0,
      downloadThroughput: -1,
      uploadThroughput: UPLOAD_RATE,
    });
  });
  after(async () => {
    await browser?.close();
    await images.remove();
  });

  async function awaitProgress(percent: number): Promise<number> {
    return await eventually(`${percent} %`, 60_000, async () => {
      const text = (await page.locator('#figures').textContent()) ?? '';
      const shown = Number.parseFloat(text);
      return shown >= percent ? shown : undefined;
    });
  }

  it('sends a file, through a pause, a gateway that dies and a reload of the page', async () => {
    await uploads.create(namespace, 'by-page', {
      storage: { resources: { requests: { storage: '200Mi' } } },
    });
    await world.awaitPhase(namespace, 'by-page', 'UploadReady', 60_000);
    const token = await uploads.token(namespace, 'by-page');
    const violations: string[] = [];
    page.on('console', (message) => {
      if (/Content Security Policy/.test(message.text())) violations.push(message.text());
    });
    await page.goto(`https://127.0.0.1:${stack.info.ports.gateway}/upload/#token=${token}`);
    await page.getByText(`Into claim by-page of namespace ${namespace}.`).waitFor();
    // nobody reads it over a shoulder, or in a history
    assert.doesNotMatch(page.url(), /token/);
    await page.locator('#file').setInputFiles(images.raw);
    await awaitProgress(10);
    await page.getByRole('button', { name: 'Pause' }).click();
    await page.getByText('Paused.').waitFor();
    await page.getByRole('button', { name: 'Resume' }).click();
    await awaitProgress(25);
    if (process.env.DVFLOW_RECORD === '1')
      await page.screenshot({ path: fileURLToPath(new URL('../../docs/upload-page.png', import.meta.url)) });
    killProcess(stack.info, 'worker-gateway');
    await restartProcess(stack.info, 'worker-gateway');
    const before = await awaitProgress(45);
    await page.reload();
    await page.getByText(`Into claim by-page of namespace ${namespace}.`).waitFor();
    await page.locator('#file').setInputFiles(images.raw);
    // it does not begin anew
    const first = await awaitProgress(1);
    assert.ok(first > before / 2, `from ${first} %, before the reload ${before} %`);
    await page.getByText('Complete: the disk is whole, verified and synced').waitFor({ timeout: 90_000 });
    await world.awaitPhase(namespace, 'by-page', 'Succeeded', 30_000);
    await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, 'by-page'));
    assert.deepEqual(violations, []);
  });

  it('says what is wrong: a token that is none, a claim that is complete', async () => {
    await page.goto(`https://127.0.0.1:${stack.info.ports.gateway}/upload/`);
    await page.locator('#token').fill('nonsense');
    await page.getByRole('button', { name: 'Use this token' }).click();
    await page.getByText('This is no upload token.').waitFor();
    const token = await uploads.token(namespace, 'by-page');
    await page.locator('#token').fill(token);
    await page.getByRole('button', { name: 'Use this token' }).click();
    await page.locator('#file').setInputFiles(images.raw);
    await page.getByText('already finished uploading').waitFor({ timeout: 30_000 });
  });
});
