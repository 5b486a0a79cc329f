import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, ftruncateSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { Agent, createServer, request, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { finished } from 'node:stream/promises';
import { mock } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { MockActivityEnvironment } from '@temporalio/testing';
import { createByteBudget } from '../../../activities/image/clone/byte-budget.js';
import { dataStretches, MOST_STRETCHES } from '../../../activities/image/clone/kernel.js';
import { packTree } from '../../../activities/image/clone/pack-tree.js';
import { createServeActivities } from '../../../activities/image/clone/serve.js';
import { createTreeHandler } from '../../../activities/image/clone/serve-tree.js';
import { createVolumeHandler } from '../../../activities/image/clone/serve-volume.js';
import { servedUrl } from '../../../activities/image/clone/volume-protocol.js';
import { createVolumeSource } from '../../../activities/image/clone/volume-source.js';
import type { DataPortResource } from '../../../activities/types/data-port.js';
import { collectGarbage } from '../../support/garbage.js';
import { openPaths } from '../../support/open-files.js';
import { makeSource } from '../support/clone.js';
import { makePatterned, MIB, useDirectory } from '../support/images.js';
import { until } from '../support/transfer.js';

/** Longest that `work` kept the event loop from turning, in ms of this thread's own: it may have to wait for a processor much longer. */
async function longestBlock(work: () => Promise<unknown>): Promise<number> {
  let last = process.threadCpuUsage();
  let longest = 0;
  const look = (): void => {
    const { user, system } = process.threadCpuUsage(last);
    longest = Math.max(longest, (user + system) / 1000);
    last = process.threadCpuUsage();
  };
  const timer = setInterval(look, 1);
  try {
    await work();
  } finally {
    clearInterval(timer);
  }
  look();
  return longest;
}

describe('serving volumes', function () {
  this.timeout(120_000);
  const directory = useDirectory();

  /** A file that is in so many pieces. */
  function makeScattered(path: string, pieces: number): number {
    const fd = openSync(path, 'w+');
    const block = Buffer.alloc(4096, 1);
    for (let index = 0; index < pieces; index += 1) writeSync(fd, block, 0, block.length, index * 8192);
    ftruncateSync(fd, pieces * 8192);
    return fd;
  }

  it("lets others work while a tenant's scattered file is looked at", async () => {
    const path = `${directory()}/scattered`;
    mkdirSync(path);
    const fd = makeScattered(`${path}/file`, 20_000);
    let found = 0;
    const looked = await longestBlock(async () => {
      found = (await dataStretches(fd, 0, 20_000 * 8192)).length;
    });
    assert.equal(found, 20_000);
    assert.ok(looked < 200, `the event loop was blocked for ${looked} ms`);
    const root = openSync(path, 'r');
    const packed = await longestBlock(async () => {
      const signal = new AbortController().signal;
      for await (const chunk of packTree({ fd: root }, { count: 0 }, signal)) void chunk;
    });
    assert.ok(packed < 200, `the event loop was blocked for ${packed} ms`);
    for (const open of [fd, root]) closeSync(open);
    rmSync(path, { recursive: true });
  });

  it('tells no more stretches than an answer holds, and that what follows may be data', async () => {
    const path = `${directory()}/pieces`;
    const fd = makeScattered(path, MOST_STRETCHES + 1000);
    const end = (MOST_STRETCHES + 1000) * 8192;
    const found = await dataStretches(fd, 0, end);
    assert.equal(found.length, MOST_STRETCHES);
    assert.deepEqual(found.at(-1), { start: (MOST_STRETCHES - 1) * 8192, end });
    closeSync(fd);
    rmSync(path);
  });

  it('keeps its memory bounded, however many ask and do not read, and serves them when they do', async () => {
    const path = `${directory()}/large`;
    const fd = openSync(path, 'w+');
    ftruncateSync(fd, 1024 * MIB);
    const { handle } = createVolumeHandler((signal, flush) =>
      createVolumeSource({ fd, name: 'v', generation: 1 }, { signal, flush }),
    );
    const server = createServer((asked, response) => void handle(asked, response)).listen(0);
    await pause(50);
    const { port } = server.address() as AddressInfo;
    const agent = new Agent({ maxSockets: 1000 });
    const headers = { range: `bytes=0-${8 * MIB - 1}` };
    // what the process has from the system may hold garbage of others, and gets back what they leave
    collectGarbage();
    const before = process.memoryUsage().external;
    const answers: IncomingMessage[] = [];
    for (let index = 0; index < 72; index += 1)
      request({ port, path: '/volume/x', agent, headers }, (answer) => answers.push(answer.pause())).end();
    await pause(2000);
    const grown = (process.memoryUsage().external - before) / MIB;
    assert.ok(grown < 160, `${grown} MiB for 72 readers that do not read`);
    let bytes = 0;
    const reading = setInterval(() => {
      for (const answer of answers.splice(0))
        answer.on('data', (chunk: Buffer) => (bytes += chunk.length)).resume();
    }, 10);
    while (bytes < 72 * 8 * MIB) await pause(20);
    clearInterval(reading);
    agent.destroy();
    server.close();
    closeSync(fd);
  });

  for (const contentType of ['kubevirt', 'archive'] as const)
    it(`ends its answers before it closes what they read (${contentType})`, async () => {
      const { volume, disk } = makeSource(directory(), (path) => void makePatterned(path, 64));
      const answers: Promise<void>[] = [];
      let resource: DataPortResource | undefined;
      const url = 'https://source/volume/x';
      const node = createServeActivities('source', {
        urlOf: () => url,
        open: (opened) => {
          resource = opened;
          return { url: servedUrl(url, 1), [Symbol.dispose]: () => undefined };
        },
      });
      const environment = new MockActivityEnvironment();
      const input = { uid: 'x', volume, contentType, generation: 1, url };
      const served = environment.run<[], void, () => Promise<void>>(() => node.serveVolume(input));
      served.catch(() => undefined);
      await until(served, () => resource !== undefined);
      const server = createServer((asked, response) => {
        answers.push(resource!.handle(asked, response));
      }).listen(0);
      await once(server, 'listening');
      const { port } = server.address() as AddressInfo;
      const headers = { range: `bytes=0-${8 * MIB - 1}` };
      const agent = new Agent({ maxSockets: 8 });
      const heads = await Promise.all(
        Array.from({ length: 4 }, async () => {
          const [head] = (await once(request({ port, agent, headers }).end(), 'response')) as [
            IncomingMessage,
          ];
          return head.on('error', () => undefined);
        }),
      );
      environment.cancel();
      await assert.rejects(served);
      const ended = await Promise.race([Promise.all(answers).then(() => true), pause(0, false)]);
      assert.ok(ended, 'they still read, by the number of a descriptor that is closed');
      for (const head of heads) {
        await finished(head.resume()).catch(() => undefined);
        assert.ok(!head.complete, 'what is not whole must not look so');
      }
      const late = request({ port, headers }).end();
      const [refused] = (await once(late, 'response')) as [IncomingMessage];
      assert.equal(refused.statusCode, 503);
      refused.resume();
      agent.destroy();
      server.close();
      rmSync(disk);
    });

  /** What this process has open below a path. */
  function openBelow(path: string): string[] {
    return openPaths().filter((open) => open.startsWith(`${path}/`));
  }

  function makeTree(): { path: string; root: number } {
    const path = `${directory()}/tree-${randomUUID()}`;
    mkdirSync(`${path}/inner/most`, { recursive: true });
    makePatterned(`${path}/inner/most/file`, 32);
    return { path, root: openSync(path, 'r') };
  }

  it('leaves nothing of a tree open when its reader leaves', async () => {
    const { path, root } = makeTree();
    const { handle } = createTreeHandler({ fd: root }, 1);
    const answers: Promise<void>[] = [];
    const server = createServer((asked, response) => {
      answers.push(handle(asked, response));
    }).listen(0);
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const asking = request({ port }).end();
    await once(asking, 'response');
    asking.on('error', () => undefined);
    while (!openBelow(path).includes(`${path}/inner/most/file`)) await pause(5);
    // until the connection takes no more, so that it waits with the file open
    await pause(300);
    asking.destroy();
    await Promise.all(answers);
    assert.deepEqual(openBelow(path), []);
    server.close();
    closeSync(root);
  });

  it('leaves nothing open when its reader leaves during the last look', async () => {
    const { path, root } = makeTree();
    const archive = packTree({ fd: root }, { count: 0 }, new AbortController().signal);
    for (let next = await archive.next(); ; next = await archive.next())
      if (next.value?.length === 1024) break;
    let now = performance.now();
    const clock = mock.method(performance, 'now', () => (now += 60_000));
    await archive.next();
    clock.mock.restore();
    assert.notDeepEqual(openBelow(path), []);
    await archive.return('');
    assert.deepEqual(openBelow(path), []);
    closeSync(root);
  });

  it('takes memory in turn, and none for who has left', async () => {
    const budget = createByteBudget(10);
    const { signal } = new AbortController();
    const order: string[] = [];
    const first = await budget.take(8, signal);
    const leaving = new AbortController();
    const left = budget.take(10, leaving.signal).catch(() => order.push('left'));
    const small = budget.take(2, signal).then((give) => (order.push('small'), give));
    await pause(5);
    assert.deepEqual(order, []);
    leaving.abort(new Error('gone'));
    await Promise.all([left, small]);
    assert.deepEqual(order.sort(), ['left', 'small']);
    first();
    first();
    let whole = false;
    const taken = budget.take(10, signal).then(() => (whole = true));
    await pause(5);
    assert.ok(!whole, 'what was given back twice counts once');
    (await small)();
    await taken;
  });
});
