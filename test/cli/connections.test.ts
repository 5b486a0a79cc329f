import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { withTemporal } from '../../cli/connections.js';
import type { StackInfo } from '../../local/types.js';
import { startTemporal, type TestServer } from '../client/temporal.js';

describe('the way to Temporal', function () {
  this.timeout(60_000);
  let home: string;
  let server: TestServer;

  before(async () => {
    home = mkdtempSync(join(tmpdir(), 'dvflow-connections-'));
    server = await startTemporal();
    process.env.TEMPORAL_CONFIG_FILE = join(home, 'temporal.toml');
    const profile = ['[profile.default]', 'address = "127.0.0.1:1"', 'namespace = "dev"', 'api_key = "key"'];
    writeFileSync(process.env.TEMPORAL_CONFIG_FILE, profile.join('\n'));
  });
  after(async () => {
    delete process.env.TEMPORAL_CONFIG_FILE;
    rmSync(home, { recursive: true });
    await server?.close();
  });

  it('that leads to the local stack takes nothing from a profile for another server', async () => {
    const stack = { temporalAddress: server.address, uiUrl: 'http://127.0.0.1:1' } as StackInfo;
    const { count } = await withTemporal((client) => client.workflow.count(), stack);
    assert.equal(count, 0);
  });

  it('is that of the profile where the stack has no server of its own', async () => {
    const stack = { temporalAddress: server.address, uiUrl: '' } as StackInfo;
    // the server has no TLS, which an API key asks for
    await assert.rejects(
      withTemporal((client) => client.workflow.count(), stack),
      /does not answer at/,
    );
  });
});
