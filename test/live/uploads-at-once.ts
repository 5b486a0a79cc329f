import assert from 'node:assert/strict';
import { createReadStream, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { once } from 'node:events';
import type { ClientRequest, IncomingMessage, OutgoingHttpHeaders } from 'node:http';
import { request, type RequestOptions } from 'node:https';
import { setTimeout as pause } from 'node:timers/promises';
import { processPid } from '../../local/index.js';
import { gatewayAuthority } from '../../local/gateway.js';
import { makeImages, type Images } from './images.js';
import { createUploads, type Uploads } from './uploads.js';
import { createWorld, type World } from './world.js';
import { useStack } from '../support/stack.js';

const FILES = '/tus/uploads';

/** What a gateway's memory may come to, in MiB (issue 6). */
const MOST_MIB = 192;

/** How a client sends its file. */
export type Way = 'post' | 'form' | 'tus';

/** Defines the tests of a gateway's memory with eight uploads at once, by each of these ways. */
export function defineUploadsAtOnce(...ways: readonly Way[]): void {
  const stack = useStack();
  let world: World;
  let uploads: Uploads;
  let images: Images;
  let namespace: string;

  before(async () => {
    world = createWorld(stack);
    uploads = createUploads(stack, world);
    images = await makeImages({ sizeMiB: 256, dataMiB: 192 });
    namespace = await world.createNamespace('at-once');
  });
  after(() => images.remove());

  for (const way of ways)
    it(`the gateway keeps within ${MOST_MIB} MiB with eight uploads at once, by ${way}`, async () => {
      const names = Array.from({ length: 8 }, (_, index) => `${way}-${index}`);
      const answers = names.map(async (name) => {
        await uploads.create(namespace, name, { storage: { resources: { requests: { storage: '264Mi' } } } });
        await world.awaitPhase(namespace, name, 'UploadReady', 60_000);
        // a gateway whose nodes are all busy for too long says so, and clients try again
        for (let tries = 1; ; tries += 1) {
          const status = await WAYS[way](await uploads.token(namespace, name));
          if (status !== 503 || tries === 10) return status;
          await pause(2_000);
        }
      });
      for (const status of await Promise.all(answers)) assert.ok(status < 300, `${status}`);
      const pid = processPid(stack.info, 'worker-gateway') ?? 0;
      const text = await readFile(`/proc/${pid}/status`, 'utf8');
      const peakKiB = Number(/^VmHWM:\s+(\d+) kB$/m.exec(text)?.[1]);
      console.log(`      peak of the gateway so far ${Math.round(peakKiB / 1024)} MiB`);
      assert.ok(peakKiB < MOST_MIB * 1024, `${peakKiB} KiB`);
      for (const name of names) {
        await world.awaitPhase(namespace, name, 'Succeeded', 60_000);
        await world.remove(namespace, name);
      }
    });

  /** Each sends the disk and gives the status. */
  const WAYS = {
    post: (bearer: string) => send(bearer, { path: '/v1beta1/upload' }),
    form: (bearer: string) => {
      const head = '--b\r\nContent-Disposition: form-data; name="file"; filename="disk.img"\r\n\r\n';
      const headers = { 'content-type': 'multipart/form-data; boundary=b' };
      return send(bearer, { path: '/v1beta1/upload-form', headers }, [head, '\r\n--b--\r\n']);
    },
    tus: async (bearer: string) => {
      const version = { 'tus-resumable': '1.0.0' };
      const { size } = statSync(images.raw);
      const location = await create(bearer, { ...version, 'upload-length': size });
      const headers = { ...version, 'upload-offset': 0, 'content-type': 'application/offset+octet-stream' };
      return await send(bearer, { path: location, method: 'PATCH', headers });
    },
  };

  function ask(bearer: string, options: RequestOptions): ClientRequest {
    return request({
      host: '127.0.0.1',
      port: stack.info.ports.gateway,
      method: 'POST',
      ca: gatewayAuthority(stack.info.directory),
      agent: false,
      ...options,
      headers: { authorization: `Bearer ${bearer}`, ...(options.headers as OutgoingHttpHeaders) },
    });
  }

  async function answerOf(asked: ClientRequest): Promise<IncomingMessage> {
    const [response] = (await once(asked, 'response')) as [IncomingMessage];
    response.resume();
    return response;
  }

  /** Path of a new resumable upload. */
  async function create(bearer: string, headers: OutgoingHttpHeaders): Promise<string> {
    const asked = ask(bearer, { path: FILES, headers });
    asked.end();
    const { statusCode, headers: told } = await answerOf(asked);
    assert.equal(statusCode, 201);
    return new URL(told.location ?? '', `https://localhost${FILES}`).pathname;
  }

  async function send(
    bearer: string,
    options: RequestOptions,
    [head, tail]: readonly [string, string] = ['', ''],
  ): Promise<number> {
    const length = head.length + statSync(images.raw).size + tail.length;
    const headers = { 'content-length': length, ...(options.headers as OutgoingHttpHeaders) };
    const asked = ask(bearer, { ...options, headers });
    const answer = answerOf(asked);
    asked.write(head);
    createReadStream(images.raw)
      .once('end', () => asked.end(tail))
      .pipe(asked, { end: false });
    return (await answer).statusCode ?? 0;
  }
}
