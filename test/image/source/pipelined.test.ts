import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { transientFailure } from '../../../activities/failures.js';
import { RangesLostError, type Entrance, type ImageSource } from '../../../activities/image/source/types.js';
import {
  bufferContent,
  createAuthority,
  startContentServer,
  startRawServer,
  startServer,
} from '../../support/servers/index.js';
import type { Behaviour, RunningServer, SeenRequest } from '../../support/servers/index.js';
import { BYTES, collect, fails, useBench } from './open.js';

const PIECE = 50_021;

/** Reads all of the source by ranges that are asked for at once. */
async function readAll(
  source: ImageSource,
  target: Uint8Array = Buffer.alloc(BYTES.length),
  piece = PIECE,
): Promise<void> {
  const reads: Promise<void>[] = [];
  for (let at = 0; at < target.length; at += piece)
    reads.push(source.readInto(at, target.subarray(at, at + piece)));
  await Promise.all(reads);
  assert.ok(Buffer.from(target).equals(BYTES));
}

interface Range {
  readonly start: number;
  readonly end: number;
}

/** A server that speaks HTTP by hand: `answer` gets each request's range, the socket, and its number on it and in its burst. */
function startHandMade(
  answer: (socket: Socket, range: Range, index: number, inBurst: number) => void,
): Promise<RunningServer> {
  return startRawServer((socket) => {
    let text = '';
    let index = 0;
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
      let inBurst = 0;
      for (let end = text.indexOf('\r\n\r\n'); end >= 0; end = text.indexOf('\r\n\r\n')) {
        const [, start = '0', last = '0'] = /range: bytes=(\d+)-(\d+)/iu.exec(text.slice(0, end)) ?? [];
        text = text.slice(end + 4);
        answer(
          socket,
          { start: Number(start), end: Math.min(Number(last) + 1, BYTES.length) },
          (index += 1) - 1,
          (inBurst += 1) - 1,
        );
      }
    });
  });
}

function head({ start, end }: Range, extra = ''): string {
  const range = `content-range: bytes ${start}-${end - 1}/${BYTES.length}\r\ncontent-length: ${end - start}\r\n`;
  return `HTTP/1.1 206 Partial Content\r\netag: "v1"\r\n${range}${extra}\r\n`;
}

/** Keeps timers and sockets of this process waiting. */
function holdUp(ms: number): void {
  for (const until = performance.now() + ms; performance.now() < until;);
}

/** Head and body in one write, so that no answer waits for an acknowledgement of its head. */
function whole(range: Range, extra = ''): Buffer {
  return Buffer.concat([Buffer.from(head(range, extra)), BYTES.subarray(range.start, range.end)]);
}

describe('pipelined ranges of an HTTP source', function () {
  this.timeout(60_000);
  const bench = useBench();
  const open = (url: string, options = {}) => bench.open(url, {}, { pipelining: true, ...options });
  const serve = (behaviour: Behaviour | ((index: number, request: SeenRequest) => Behaviour)) =>
    bench.serve(startContentServer(bufferContent(BYTES), behaviour));

  it('land in place, on two connections, each asked for once', async () => {
    const server = await serve({});
    const { source } = open(server.url);
    await source.probe();
    await readAll(source);
    assert.ok(server.connections() <= 3, `${server.connections()} connections, one of them the probe's`);
    assert.equal(server.requests().length, 1 + Math.ceil(BYTES.length / PIECE));
    assert.equal(source.bytesRead, 1_048_576 + BYTES.length);
    for (const { headers } of server.requests().slice(1)) assert.equal(headers['if-range'], '"v1"');
  });

  it('land in shared memory', async () => {
    const server = await serve({});
    await readAll(open(server.url).source, new Uint8Array(new SharedArrayBuffer(BYTES.length)));
  });

  it('are read over TLS, with an own authority', async () => {
    const authority = await createAuthority();
    const tls = await authority.issue(['localhost']);
    const server = await bench.serve(startContentServer(bufferContent(BYTES), {}, { tls }));
    const { source } = bench.open(server.url, { ca: authority.ca }, { pipelining: true });
    await source.probe();
    await readAll(source);
  });

  it('stream the source in order, and ask for nothing twice', async () => {
    const server = await serve({});
    const { source } = open(server.url);
    assert.ok((await collect(source.stream(0))).equals(BYTES));
    assert.equal(source.bytesRead, BYTES.length);
    assert.ok((await collect(source.stream(2_000_000))).equals(BYTES.subarray(2_000_000)));
  });

  for (const [name, behaviour] of Object.entries<(index: number) => Behaviour>({
    'connections that are reset': (index) => (index > 0 && index % 7 === 0 ? { dropAfter: 20_000 } : {}),
    'bodies that are too short': (index) => (index > 0 && index % 5 === 0 ? { truncateAfter: 10_000 } : {}),
    'servers that are busy now and then': (index) => (index % 9 === 4 ? { status: 503 } : {}),
    'answers of another range': (index) => (index > 0 && index % 11 === 0 ? { distort: 'other-range' } : {}),
    'answers in several parts': (index) => (index > 0 && index % 13 === 0 ? { distort: 'multipart' } : {}),
    'chunked answers': (index) => (index > 0 ? { chunked: true } : {}),
  })) {
    it(`survive ${name}`, async () => {
      const server = await serve(behaviour);
      const { source } = open(server.url);
      await source.probe();
      await readAll(source);
    });
  }

  for (const [ending, extra] of [
    ['kept', ''],
    ['closed each time', 'connection: close\r\n'],
  ] as const)
    it(`are asked for on and on where a server gives less at once, on connections that are ${ending}`, async () => {
      let connections = 0;
      const server = await bench.serve(
        startHandMade((socket, { start, end }, index) => {
          if (index === 0) connections += 1;
          if (index > 0 && extra) return;
          const most = end - start === 1_048_576 && start === 0 ? end : Math.min(end, start + 20_011);
          socket.write(whole({ start, end: most }, extra));
          if (extra) socket.end();
        }),
      );
      const { source, notices } = open(server.url, { maxReconnects: 0 });
      await source.probe();
      await readAll(source, undefined, 400_009);
      assert.deepEqual(notices, []);
      assert.equal(source.bytesRead, 1_048_576 + BYTES.length);
      if (!extra) assert.ok(connections <= 3, `${connections} connections`);
    });

  it('go on over a stalled connection, and say so', async () => {
    const server = await serve((index) => (index === 3 ? { stallAfter: 1000 } : {}));
    const { source, notices } = open(server.url, { stallMs: 300 });
    await source.probe();
    await readAll(source);
    assert.ok(
      notices.some((notice) => /no byte for 300 ms/u.test(notice)),
      notices.join('\n'),
    );
  });

  for (const [what, refuse] of Object.entries({
    'refuses a client another one': (socket: Socket) =>
      void socket.end('HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n'),
    'lets another one wait': () => undefined,
  }))
    it(`follow a server that serves one connection, and ${what}`, async () => {
      const served = new Set<Socket>();
      let refused = 0;
      const server = await bench.serve(
        startHandMade((socket, range) => {
          if (served.size === 0) {
            served.add(socket);
            socket.once('close', () => served.delete(socket));
          }
          if (served.has(socket)) return void setTimeout(() => socket.write(whole(range)), 5);
          refused += 1;
          refuse(socket);
        }),
      );
      const { source } = open(server.url, { stallMs: 3000, maxReconnects: 1, backoffMs: 10 });
      await source.probe();
      await readAll(source);
      await readAll(source);
      // the requests of one burst, on one connection
      assert.ok(refused > 0 && refused <= 64, `${refused} requests were refused`);
    });

  it('follow a server that ends each connection after some answers', async () => {
    for (const limit of [1, 3]) {
      const server = await bench.serve(
        startHandMade((socket, range, index) => {
          if (index >= limit) return;
          const last = index === limit - 1;
          socket.write(head(range, last ? 'connection: close\r\n' : ''));
          socket.write(BYTES.subarray(range.start, range.end));
          if (last) socket.end();
        }),
      );
      const { source } = open(server.url);
      await source.probe();
      await readAll(source);
    }
  });

  it('follow a server that forgets what it was asked behind the first request', async () => {
    const server = await bench.serve(
      startHandMade((socket, range, index) => {
        if (index > 0) return;
        socket.write(head(range));
        socket.write(BYTES.subarray(range.start, range.end));
        setTimeout(() => socket.end(), 5);
      }),
    );
    const { source } = open(server.url);
    await source.probe();
    await readAll(source);
  });

  for (const kept of [1, 2, 5])
    it(`ask one by one when a server forgets what it was asked behind ${kept} of a burst`, async () => {
      let forgotten = 0;
      const server = await bench.serve(
        startHandMade((socket, range, _index, inBurst) => {
          if (inBurst < kept) socket.write(whole(range));
          else forgotten += 1;
        }),
      );
      const { source, notices } = open(server.url, { stallMs: 5000 });
      await source.probe();
      await readAll(source);
      assert.ok(forgotten > 0 && forgotten <= 2 * 32, `${forgotten} requests forgotten`);
      assert.deepEqual(new Set(notices), new Set(['reconnecting: no byte for 500 ms (attempt 2)']));
      assert.equal(source.bytesRead, 1_048_576 + BYTES.length);
    });

  it('wait for a slow server with one request after the other', async () => {
    const bursts: number[] = [];
    const server = await bench.serve(
      startHandMade((socket, range, _index, inBurst) => {
        bursts.push(inBurst === 0 ? 1 : (bursts.pop() ?? 0) + 1);
        setTimeout(() => socket.write(whole(range)), 300 * (inBurst + 1));
      }),
    );
    const { source, notices } = open(server.url, { stallMs: 1500 });
    await source.probe();
    await readAll(source, undefined, 400_000);
    // two connections had a burst under way; from then on nothing is sent ahead, and every answer has all the time it needs
    assert.ok(bursts.filter((burst) => burst > 1).length <= 2, bursts.join(' '));
    assert.deepEqual(new Set(notices), new Set(['reconnecting: no byte for 150 ms (attempt 2)']));
    assert.equal(source.bytesRead, 1_048_576 + BYTES.length);
  });

  it('go on in bursts when this process was held up, not the server', async () => {
    const server = await bench.serve(
      startHandMade((socket, range, index) => {
        if (index === 0) return void socket.write(whole(range));
        const send = () => {
          socket.write(whole(range));
          if (index === 1) holdUp(300);
        };
        // in the phase of immediates, behind which timers come first, and only then sockets
        setTimeout(() => setImmediate(send), 50);
      }),
    );
    const { source, notices } = open(server.url, { stallMs: 2000 });
    await source.probe();
    // too little for a second connection, whose server would be held up as well
    const target = Buffer.alloc(200_000);
    const parts = [0, 50_000, 100_000, 150_000];
    await Promise.all(parts.map((at) => source.readInto(at, target.subarray(at, at + 50_000))));
    assert.ok(target.equals(BYTES.subarray(0, target.length)));
    assert.deepEqual(notices, []);
  });

  for (const extra of ['', 'connection: close\r\n'])
    it(`go on in bursts when connections are closed after two answers, ${extra ? 'with' : 'without'} a word`, async () => {
      const bursts: number[] = [];
      const server = await bench.serve(
        startHandMade((socket, range, index, inBurst) => {
          bursts.push(inBurst === 0 ? 1 : (bursts.pop() ?? 0) + 1);
          if (index > 1) return;
          socket.write(whole(range, index === 1 ? extra : ''));
          if (index === 1) socket.end();
        }),
      );
      const { source, notices } = open(server.url);
      await source.probe();
      await readAll(source);
      assert.ok(bursts.filter((burst) => burst > 2).length > 20, bursts.join(' '));
      assert.deepEqual(notices, []);
      assert.equal(source.bytesRead, 1_048_576 + BYTES.length);
    });

  it('read heads that come byte by byte, with long headers, and bodies glued to the next head', async () => {
    const server = await bench.serve(
      startHandMade((socket, range, index) => {
        const answer = head(range, `x-long: ${'y'.repeat(5000)}\r\n`);
        if (index % 3 === 1) for (const char of answer) socket.write(char);
        else socket.write(answer);
        socket.write(BYTES.subarray(range.start, range.end));
      }),
    );
    const { source } = open(server.url);
    await source.probe();
    await readAll(source);
  });

  it('leave heads that are no plain HTTP/1.1 to node:http', async () => {
    const server = await bench.serve(
      startHandMade((socket, range, index) => {
        const odd = index === 1 ? 'content-length: 7\r\n' : '';
        socket.write(head(range, odd));
        socket.write(BYTES.subarray(range.start, range.end));
      }),
    );
    const { source } = open(server.url, { maxReconnects: 8 });
    await source.probe();
    await readAll(source);
  });

  for (const [ending, from, to] of [
    ['whose empty line alone has a CR', /\r\n(?!$)/gu, '\n'],
    ['with half an empty line', /\r\n$/u, '\r'],
  ] as const)
    it(`leave heads ${ending} to node:http, at once`, async () => {
      const server = await bench.serve(
        startHandMade((socket, range) => {
          socket.write(head(range).replace(from, to));
          socket.write(BYTES.subarray(range.start, range.end));
        }),
      );
      const { source, notices } = open(server.url);
      await source.probe();
      await readAll(source, undefined, 400_009);
      assert.match(
        notices.join('\n'),
        /^server breaks the rules of HTTP \(HPE_\w+\): reading it leniently$/u,
      );
    });

  it('are lost when the server answers 200 for the same version; the stream goes on in one piece', async () => {
    const lost = await serve((index) => ({ ranges: index < 3 }));
    await assert.rejects(readAll(open(lost.url).source), RangesLostError);
    const streamed = await serve((index) => ({ ranges: index < 1 }));
    const { source, notices } = open(streamed.url);
    assert.ok((await collect(source.stream(0))).equals(BYTES));
    assert.ok(notices.some((notice) => /no longer answers ranges/u.test(notice)));
  });

  it('take no byte of another version', async () => {
    const server = await serve((index) => (index === 0 ? {} : { etag: '"v2"' }));
    const target = Buffer.alloc(1000);
    await fails(open(server.url).source.readInto(5, target), 'SourceChanged', /ETag was "v1", is "v2"$/u);
    assert.ok(target.equals(Buffer.alloc(1000)));
  });

  it('end with the failure of a server that is gone for good', async () => {
    const server = await serve((index) => (index < 5 ? {} : { status: 404 }));
    const { source } = open(server.url);
    await source.probe();
    await fails(readAll(source), 'SourceNotFound', /404 Not Found$/u);
  });

  it('resolve a redirect whose target has expired again', async () => {
    let generation = 1;
    const target = await bench.serve(
      startContentServer(bufferContent(BYTES), (_, { path }) => {
        if (path.endsWith('/old')) return { status: 403 };
        return path.endsWith(`/${generation}`) ? {} : { status: 403 };
      }),
    );
    const home = await bench.serve(
      startServer((_, response) => {
        response.writeHead(302, { location: `${target.url}/${generation}` }).end();
      }),
    );
    const { source } = open(home.url);
    await source.probe();
    generation = 2;
    await readAll(source);
  });

  it('outlast a token that cannot be had for a moment', async () => {
    const server = await bench.serve(startContentServer(bufferContent(BYTES)));
    const url = new URL(server.url);
    for (let failing = 1; failing <= 5; failing += 1) {
      let asked = 0;
      const entrance = async (): Promise<Entrance> => {
        asked += 1;
        if (asked === failing) throw transientFailure('SourceUnavailable', 'no token for the moment');
        return { url, headers: {} };
      };
      const { source } = bench.open(server.url, {}, { pipelining: true, entrance });
      await readAll(source);
      assert.ok(asked > failing, `${asked} tokens`);
    }
  });

  it('reject with the reason of a cancel, all of them, at once', async () => {
    const server = await serve((index) => (index === 0 ? {} : { stallAfter: 10 }));
    const { source, abort } = open(server.url);
    await source.probe();
    const reading = readAll(source);
    setTimeout(() => abort.abort(new Error('cancelled')), 50);
    await assert.rejects(reading, /cancelled/u);
    await assert.rejects(source.readInto(0, Buffer.alloc(5)), /cancelled/u);
  });

  it('connect to no address that is refused', async () => {
    const server = await serve({});
    const { source } = open(server.url, { policy: { allowed: [], denied: [] } });
    await fails(source.readInto(0, Buffer.alloc(5)), 'SourceNotAllowed', /127\.0\.0\.1 \(loopback\)/u);
    assert.equal(server.connections(), 0);
  });

  it('read ahead of a slow consumer by a bounded amount', async () => {
    const bytes = Buffer.alloc(40 * 1024 * 1024, 7);
    const server = await bench.serve(startContentServer(bufferContent(bytes), {}));
    const { source } = open(server.url);
    const stream = source.stream(0)[Symbol.asyncIterator]();
    await stream.next();
    await sleep(300);
    assert.ok(source.bytesRead <= 14 * 1024 * 1024, `${source.bytesRead} bytes read`);
    await stream.return?.();
  });
});
