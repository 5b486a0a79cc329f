import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { convertImage } from '../../activities/image/convert.js';
import { planImage } from '../../activities/image/plan-image.js';
import { createRecordStore } from '../../activities/image/resume-record.js';
import { createHttpSource } from '../../activities/image/source/http-source.js';
import { apart, commandLine } from '../cli/command.js';
import { startRawServer, type RunningServer } from '../support/servers/index.js';
import { MIB, useDirectory } from './support/images.js';
import { useBench } from './source/open.js';

const DISK = randomBytes(2 * MIB);
// what is random may begin like a gzip
DISK.fill(0, 0, 512);
const SAID =
  'the server tells no length: a raw disk that is cut short looks whole, and only a checksum can tell';

describe('a raw disk whose server tells no length', function () {
  this.timeout(60_000);
  const directory = useDirectory();
  const bench = useBench();

  /** Ends its answer as servers of HTTP/1.0 do: by closing the connection, in good order. */
  const serve = (bytes: Buffer, headers = ''): Promise<RunningServer> =>
    bench.serve(
      startRawServer((socket) => {
        socket.once('data', () => {
          socket.write(`HTTP/1.0 200 OK\r\n${headers}\r\n`);
          socket.end(bytes);
        });
      }),
    );

  async function inspected(server: RunningServer, checksum?: string): Promise<string | undefined> {
    using planned = await planImage(bench.open(server.url).source, { checksum, scratch: false });
    return planned.facts.unproved;
  }

  async function converted(bytes: Buffer, name: string) {
    const { url } = await serve(bytes);
    const source = createHttpSource(
      { kind: 'http', url, headers: [], secretHeaders: [], insecureSkipVerify: false },
      { policy: { allowed: ['127.0.0.0/8'], denied: [] }, signal: new AbortController().signal },
    );
    const path = `${directory()}/${name}`;
    const fd = openSync(path, 'w+');
    mkdirSync(`${path}.record`);
    const said = new Set<string | undefined>();
    try {
      const result = await convertImage({
        source,
        target: { fd },
        size: { claimName: 'team-a/vm1', usableBytes: Infinity, fit: true },
        preallocation: false,
        records: createRecordStore(`${path}.record`),
        fence: 1,
        attempt: 1,
        signal: new AbortController().signal,
        onProgress: ({ message }) => said.add(message),
      });
      assert.ok(readFileSync(path).equals(bytes));
      return { result, said: [...said].filter((text) => text !== undefined) };
    } finally {
      source.close();
      closeSync(fd);
    }
  }

  it('is said to be proved by nothing, however short it is', async () => {
    assert.equal(await inspected(await serve(DISK)), SAID);
    assert.equal(await inspected(await serve(DISK.subarray(0, 100))), SAID);
  });

  it('is proved by a checksum, a length, chunks, or the end of a compressor', async () => {
    const checksum = `sha256:${createHash('sha256').update(DISK).digest('hex')}`;
    const chunked = Buffer.concat([
      Buffer.from(`${DISK.length.toString(16)}\r\n`),
      DISK,
      Buffer.from('\r\n0\r\n\r\n'),
    ]);
    assert.equal(await inspected(await serve(DISK), checksum), undefined);
    assert.equal(await inspected(await serve(DISK, `content-length: ${DISK.length}\r\n`)), undefined);
    assert.equal(await inspected(await serve(chunked, 'transfer-encoding: chunked\r\n')), undefined);
    assert.equal(await inspected(await serve(gzipSync(DISK))), undefined);
  });

  it('is converted, and it is said; also where it ends inside a sector', async () => {
    const whole = await converted(DISK, 'whole');
    assert.deepEqual(whole.said, [SAID]);
    assert.equal(whole.result.virtualSize, DISK.length);
    const cut = await converted(DISK.subarray(0, MIB + 1000), 'cut');
    assert.deepEqual(cut.said, [SAID, `${SAID}; it has ended inside a sector, after ${MIB + 1000} bytes`]);
    const tiny = await converted(DISK.subarray(0, 100), 'tiny');
    assert.equal(tiny.result.virtualSize, 100);
  });

  it('is told of on the command line', async () => {
    const { url } = await serve(DISK);
    const run = async (...args: string[]) =>
      await promisify(execFile)(process.execPath, commandLine(...args), { env: apart(directory()) });
    assert.match((await run('inspect', url)).stdout, new RegExp(`^unproved +${SAID}$`, 'mu'));
    assert.ok((await run('convert', url, `${directory()}/disk.img`)).stderr.includes(SAID));
  });
});
