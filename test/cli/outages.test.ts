import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { withTemporal } from '../../cli/connections.js';
import { CONTROL_QUEUE } from '../../workflows/task-queues.js';
import { startProxy, type Proxy } from '../client/proxy.js';
import { useWorkers } from '../client/workers.js';
import { apart, startDvflow } from './command.js';

const NOTICE = 'dvflow: Temporal does not answer; ';

describe('a command, while Temporal is away', function () {
  this.timeout(60_000);
  const server = useWorkers({
    workflows: new URL('../client/stand-in.ts', import.meta.url),
    queues: () => ({ [CONTROL_QUEUE]: { transferImage: async () => undefined } }),
  });
  let home: string;
  let proxy: Proxy;

  before(() => {
    home = mkdtempSync(join(tmpdir(), 'dvflow-outages-'));
  });
  after(() => rmSync(home, { recursive: true }));
  beforeEach(async () => {
    proxy = await startProxy(server().address);
  });
  afterEach(async () => await proxy.close());

  const startImport = (name: string) =>
    startDvflow(['import', 'http://images.example/a', '--name', name, '--size', '1Gi'], {
      ...apart(home),
      TEMPORAL_ADDRESS: proxy.address,
    });
  const handleOf = (name: string) => server().client.workflow.getHandle(`import/default/${name}`);

  it('says once that the work goes on, and shows its end when Temporal is back', async () => {
    const { said, ended, until } = startImport('outage');
    await until('stdout', 'ImportInProgress');
    await proxy.cut();
    await until('stderr', NOTICE);
    await sleep(2_500);
    await handleOf('outage').signal('end', {});
    await proxy.mend();
    assert.equal(await ended, 0);
    assert.match(said.stdout, /^claim default\/outage is Bound to pvc-of-outage$/m);
    const text = 'import of default/outage goes on, and so does the wait for its end';
    assert.equal(said.stderr, `${NOTICE}${text}\n`);
  });

  it('ends at Ctrl-C with the code and the line of every Ctrl-C', async () => {
    const { child, said, ended, until } = startImport('interrupted');
    await until('stdout', 'ImportInProgress');
    await proxy.cut();
    await until('stderr', NOTICE);
    child.kill('SIGINT');
    assert.equal(await ended, 130);
    const [, ...lines] = said.stderr.trimEnd().split('\n');
    assert.equal(lines.length, 1, said.stderr);
    assert.match(lines[0] ?? '', /^dvflow: import of default\/interrupted goes on; look at it with/);
    await handleOf('interrupted').terminate();
  });

  it('leaves nothing that fails when its connection is closed', async () => {
    process.env.TEMPORAL_ADDRESS = proxy.address;
    try {
      await withTemporal(async (client) => {
        await proxy.cut();
        // between two tries of gRPC's own when the connection is closed
        client.workflow
          .getHandle('import/default/none')
          .describe()
          .catch(() => undefined);
        await sleep(1_000);
      });
    } finally {
      delete process.env.TEMPORAL_ADDRESS;
    }
    // an error in a timer fails the test that runs then
    await sleep(3_000);
  });
});
