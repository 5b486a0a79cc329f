import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { inspectImage, type InspectPatience } from '../../activities/image/inspect.js';
import type { SourceRequest } from '../../activities/image/source/types.js';
import type { ImageFacts } from '../../activities/types.js';
import { startServer, startSilentServer } from '../support/servers/index.js';
import type { RunningServer } from '../support/servers/index.js';
import { imageOf, indexOf, layerOf } from './registry/images.js';
import { startNodeRegistry } from './registry/node-registry.js';
import { fails, useBench } from './source/open.js';

const GiB = 1024 ** 3;

describe('inspection of an image', () => {
  const bench = useBench();

  const inspect = (
    request: SourceRequest,
    patience: InspectPatience = {},
    signal = new AbortController().signal,
  ): Promise<ImageFacts> =>
    inspectImage({
      request,
      policy: { allowed: ['127.0.0.0/8'], denied: [] },
      signal,
      target: { usableBytes: GiB, overhead: 0, api: 'storage', requestBytes: GiB },
      claimName: 'team/disk',
      patience,
    });

  const http = ({ url }: RunningServer): SourceRequest => ({
    kind: 'http',
    url: `${url}/disk.raw?token=sesame`,
    headers: [],
    secretHeaders: [],
    insecureSkipVerify: false,
  });

  /** Never silent for long, and never done. */
  const startTricklingServer = (): Promise<RunningServer> =>
    startServer((_request, response) => {
      response.writeHead(206, { 'content-range': `bytes 0-1048575/${GiB}`, 'content-length': 1024 ** 2 });
      const timer = setInterval(() => response.write('x'), 20);
      response.on('close', () => clearInterval(timer));
    });

  it('is tried three times where nobody answers, then left to the next attempt', async () => {
    const server = await bench.serve(startSilentServer());
    await fails(inspect(http(server), { stallMs: 50 }), 'SourceUnavailable', /no answer for 50 ms$/u);
    assert.equal(server.connections(), 3);
  });

  it('ends within its limit, and says so, where a server is never silent and never done', async () => {
    const server = await bench.serve(startTricklingServer());
    const { port } = server;
    await fails(
      inspect(http(server), { limitMs: 500 }),
      'SourceUnavailable',
      new RegExp(
        `^GET http://127.0.0.1:${port}/disk.raw: the inspection did not end within 0.5 s, in which [1-9]\\d* bytes came$`,
        'u',
      ),
    );
  });

  it('says which of several container images was looked at, for the transfer to take the same', async () => {
    const layer = await layerOf([{ name: 'disk/a', content: Buffer.alloc(5000, 'disk') }]);
    const image = imageOf([layer], { architecture: 'riscv64' });
    const server = await bench.serve(startNodeRegistry({ 'team/disk:v1': indexOf([image]) }));
    const url = `docker://127.0.0.1:${server.port}/team/disk:v1`;
    const { architecture } = await inspect({ kind: 'registry', url, insecure: true });
    assert.equal(architecture, 'riscv64');
  });

  it('ends with the reason of a cancel, not with its limit', async () => {
    const server = await bench.serve(startTricklingServer());
    const cancel = new AbortController();
    const reason = new Error('cancelled by the test');
    const inspecting = inspect(http(server), { limitMs: 10_000 }, cancel.signal);
    await Promise.all([
      assert.rejects(inspecting, (error) => error === reason),
      sleep(100).then(() => cancel.abort(reason)),
    ]);
  });
});
