import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { chromium, type Browser, type Page } from 'playwright-core';
import { useStack } from '../support/stack.js';
import { startFileServer, type FileServer } from '../support/servers/index.js';
import { makeImages, type Images } from './images.js';
import { createWorld, dataVolume, type World } from './world.js';

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

describe('the Temporal UI in a browser', function () {
  this.timeout(180_000);
  const stack = useStack();
  let world: World;
  let images: Images;
  let server: FileServer;
  let browser: Browser;
  let page: Page;
  let namespace: string;

  before(async () => {
    world = createWorld(stack);
    images = await makeImages({ sizeMiB: 16, dataMiB: 8 });
    server = await startFileServer({ path: await images.as('qcow2') });
    namespace = await world.createNamespace('browser');
    const executablePath = execFileSync(
      'sh',
      ['-c', 'command -v chromium || command -v chromium-browser || command -v google-chrome'],
      { encoding: 'utf8' },
    ).trim();
    browser = await chromium.launch({ executablePath, args: QUIET });
    page = await browser.newPage({ viewport: { width: 1400, height: 1000 } });
    // the editor is a large script, and both cores may be at work
    page.setDefaultTimeout(90_000);
  });
  after(async () => {
    await browser?.close();
    await server.close();
    await images.remove();
  });

  it('starts an import by hand, shows its summary and result, and lists it by its search attributes', async () => {
    const manifest = dataVolume(namespace, 'by-hand', { url: server.url });
    await page.goto(
      `${stack.info.uiUrl}/namespaces/default/workflows/start-workflow?workflowId=by-hand&taskQueue=dvflow&workflowType=importDataVolume`,
    );
    const editor = page.locator('.cm-content[contenteditable="true"]').first();
    await editor.fill(JSON.stringify(manifest));
    await editor.blur();
    // The editor reformats its text and the button moves: a click straight away is lost.
    await page.waitForTimeout(500);
    await page.getByRole('button', { name: 'Start Workflow' }).last().click();
    await world.awaitPhase(namespace, 'by-hand', 'Succeeded', 60_000);
    await page.goto(`${stack.info.uiUrl}/namespaces/default/workflows/by-hand`);
    await page.getByText('Completed').first().waitFor({ timeout: 30_000 });
    const text = await page.locator('body').innerText();
    assert.match(text, /by-hand/);
    if (process.env.DVFLOW_RECORD === '1') {
      await page.waitForTimeout(2_000);
      await page.screenshot({ path: fileURLToPath(new URL('../../docs/temporal-ui.png', import.meta.url)) });
    }
    const query = encodeURIComponent(`DataVolumeNamespace="${namespace}" AND DataVolumePhase="Succeeded"`);
    await page.goto(`${stack.info.uiUrl}/namespaces/default/workflows?query=${query}`);
    await page.getByText('by-hand').first().waitFor({ timeout: 30_000 });
  });
});
