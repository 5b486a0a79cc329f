import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, request as httpRequest, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { PassThrough } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { setTimeout as pause } from 'node:timers/promises';
import { createFeed, type Feed } from '../../../activities/image/upload/feed.js';
import { session } from './support.js';

const CONTENT = Buffer.from('what is sent, and sent again after a break');

describe('the feed of an upload', () => {
  let server: Server | undefined;
  afterEach(() => server?.close());

  async function serve(feed: Feed): Promise<number> {
    server = createServer((request, response) => void feed.handle(request, response));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return (server.address() as AddressInfo).port;
  }

  /** A client that has sent the first bytes of the file, and not the others yet. */
  function begin(port: number, feed: Feed, bytes: number) {
    const sent = httpRequest({
      port,
      method: 'PUT',
      path: `/?session=${feed.request.session}`,
      headers: { 'upload-offset': '0', 'content-length': `${CONTENT.length}` },
    });
    sent.on('error', () => undefined).write(CONTENT.subarray(0, bytes));
    return sent;
  }

  it('drops what waited for a process when its client left: it is sent again, at the same offset', async () => {
    const feed = createFeed(session({ length: CONTENT.length, resumable: true }), 0);
    const port = await serve(feed);
    const first = begin(port, feed, 12);
    await feed.begun;
    first.destroy();
    while (feed.attached) await pause(5);
    assert.equal(feed.offset, 0);
    const second = begin(port, feed, 12);
    while (!feed.attached) await pause(5);
    // its first piece waits as well
    await pause(50);
    const body = new PassThrough();
    feed.connect({ body, end: () => body.end() });
    second.end(CONTENT.subarray(12));
    assert.equal((await buffer(body)).toString(), CONTENT.toString());
    assert.equal(feed.offset, CONTENT.length);
    feed.settle({ success: {} });
  });
});
