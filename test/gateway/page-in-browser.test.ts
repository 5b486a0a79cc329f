import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { chromium, type Browser, type Page } from 'playwright-core';
import { ApplicationFailure } from '../../activities/failures.js';
import { startTestGateway, type TestGateway } from './support.js';

const SIZE = 12 * 1024 * 1024;

describe('the upload page in a browser, before a node that fails', function () {
  this.timeout(120_000);
  let directory: string;
  let file: string;
  let browser: Browser;
  let page: Page;
  let gateway: TestGateway;
  let down = false;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'dvflow-page-'));
    file = join(directory, 'disk.img');
    await writeFile(file, randomBytes(SIZE));
    const names = ['chromium', 'chromium-browser', 'google-chrome'];
    const find = names.map((name) => `command -v ${name}`).join(' || ');
    const executablePath = execFileSync('sh', ['-c', find], { encoding: 'utf8' }).trim();
    browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] });
  });
  after(async () => {
    await browser.close();
    await rm(directory, { recursive: true });
  });
  beforeEach(async () => {
    gateway = await startTestGateway();
    gateway.onLocate = async (_claim, { session }) => {
      requireNode();
      const { durable = 0, complete } = gateway.dataPort.sessions.get(session) ?? {};
      return { session, offset: durable, ...(complete ? { complete } : {}) };
    };
    gateway.onOpen = async (_claim, { session, length }) => {
      requireNode();
      return { url: gateway.dataPort.url, session, offset: gateway.dataPort.open(session, length).durable };
    };
    page = await (await browser.newContext({ ignoreHTTPSErrors: true })).newPage();
    await page.goto(`https://localhost:${gateway.server.port}/upload/#token=${await gateway.token()}`);
  });
  afterEach(async () => {
    await page.close();
    await gateway.close();
  });

  function requireNode(): void {
    if (down) throw ApplicationFailure.create({ type: 'NodeUnavailable', message: 'node n1 is silent' });
  }

  const durable = () => [...gateway.dataPort.sessions.values()][0]?.durable ?? 0;

  it('goes on with the same upload after the node was away, and after a reload', async () => {
    gateway.dataPort.mood.slowMs = 5;
    await page.locator('#file').setInputFiles(file);
    while (durable() < SIZE / 4) await pause(5);
    down = gateway.dataPort.mood.away = true;
    await pause(4_000);
    down = gateway.dataPort.mood.away = false;
    while (durable() < SIZE / 2) await pause(5);
    await page.reload();
    await page.locator('#file').setInputFiles(file);
    await page.getByText('Complete: the disk is whole').waitFor({ timeout: 60_000 });
    assert.equal(gateway.dataPort.sessions.size, 1);
    assert.equal(await page.evaluate('localStorage.length'), 0);
  });

  it('shows why a file is refused, also to whoever asks again', async () => {
    const body = { type: 'ChecksumMismatch', message: 'another checksum' };
    gateway.dataPort.mood.refuse = { status: 422, body, afterBytes: SIZE };
    for (let again = 0; again < 2; again += 1) {
      await page.locator('#file').setInputFiles(file);
      await page.getByText('Saving stream failed: another checksum').waitFor({ timeout: 60_000 });
      await page.reload();
    }
    // the next time it is another upload
    assert.equal(await page.evaluate('localStorage.length'), 0);
  });
});
