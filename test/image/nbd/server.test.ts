import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { serveNbd, type NbdConnection, type NbdExport } from '../../../activities/image/nbd/server.js';
import { makeRaw, MIB } from '../support/images.js';

const run = promisify(execFile);
const SIZE = 8 * MIB + 512;

/** A disk in memory that notes what happens to it. */
function createDisk(content = Buffer.alloc(SIZE)) {
  const log: string[] = [];
  let reading = 0;
  const disk = {
    content,
    log,
    mostReads: 0,
    size: content.length,
    async read(offset: number, target: Buffer) {
      disk.mostReads = Math.max(disk.mostReads, (reading += 1));
      await sleep(1);
      content.copy(target, 0, offset);
      reading -= 1;
    },
    async write(offset: number, data: Buffer) {
      await sleep(0);
      data.copy(content, offset);
    },
    async zero(offset: number, length: number) {
      content.fill(0, offset, offset + length);
    },
    async flush() {
      log.push('flush');
    },
  } satisfies NbdExport & Record<string, unknown>;
  return disk;
}

describe('the NBD server', function () {
  this.timeout(30_000);
  let directory = '';
  let path = '';
  let server: Server;
  let exported: NbdExport;
  let connection: NbdConnection;

  before(async () => {
    directory = mkdtempSync(join(tmpdir(), 'dvflow-nbd-'));
    path = join(directory, 's');
    server = createServer((socket) => (connection = serveNbd(socket, exported)));
    server.listen(path);
    await once(server, 'listening');
  });
  after(() => {
    server.close();
    rmSync(directory, { recursive: true });
  });
  const uri = (): string => `nbd+unix:///?socket=${path}`;

  it('is understood by nbdinfo', async () => {
    exported = createDisk();
    const { exports } = JSON.parse((await run('nbdinfo', ['--json', uri()])).stdout) as {
      exports: Record<string, unknown>[];
    };
    const [found] = exports;
    assert.partialDeepStrictEqual(found, {
      'export-size': SIZE,
      is_read_only: false,
      can_flush: true,
      can_trim: true,
      can_zero: true,
      can_fua: false,
      block_size_minimum: 1,
      block_size_maximum: 32 * MIB,
    });
    const listed = await run('nbdinfo', ['--list', '--json', uri()]);
    assert.match(listed.stdout, /"export-name": ""/);
  });

  it('says that what cannot be written is read-only', async () => {
    const disk = createDisk();
    exported = { read: disk.read.bind(disk), size: SIZE };
    assert.equal((await run('nbdinfo', ['--is', 'read-only', uri()])).stderr, '');
    await assert.rejects(run('qemu-io', ['-f', 'raw', '-c', 'write 0 512', uri()]));
  });

  it('gives nbdcopy every byte, to many requests at once', async () => {
    const source = makeRaw(join(directory, 'disk.raw'), SIZE);
    const disk = createDisk(readFileSync(source));
    exported = disk;
    const copy = join(directory, 'copy.raw');
    await run('nbdcopy', ['--requests=16', uri(), copy]);
    assert.ok(readFileSync(copy).equals(disk.content));
    assert.ok(disk.mostReads > 4, `${disk.mostReads} reads at once`);
    await connection.ended;
    assert.equal(connection.working, 0);
    assert.ok(connection.requests > 4);
  });

  it('takes every byte from nbdcopy, zeros and a flush too', async () => {
    const source = makeRaw(join(directory, 'disk.raw'), SIZE, 3);
    const disk = createDisk(Buffer.alloc(SIZE, 0xaa));
    exported = disk;
    await run('nbdcopy', ['--flush', source, uri()]);
    assert.ok(disk.content.equals(readFileSync(source)));
    assert.deepEqual(disk.log.slice(0, 1), ['flush']);
  });

  it('obeys qemu-io: write, write zeroes, discard, read back', async () => {
    const disk = createDisk(Buffer.alloc(SIZE, 0xaa));
    exported = disk;
    const commands = [
      'write -P 7 1000 70000',
      'write -z 2000 3000',
      'discard 65536 4096',
      'read -P 7 1000 1000',
    ];
    await run('qemu-io', ['-f', 'raw', ...commands.flatMap((command) => ['-c', command]), uri()]);
    const expected = Buffer.alloc(SIZE, 0xaa)
      .fill(7, 1000, 71_000)
      .fill(0, 2000, 5000)
      .fill(0, 65_536, 69_632);
    assert.ok(disk.content.equals(expected));
  });

  it('keeps the error that the export threw, and tells the client EIO', async () => {
    const error = new Error('the source is away');
    exported = { size: SIZE, read: () => Promise.reject(error) };
    await assert.rejects(run('nbdcopy', [uri(), join(directory, 'none.raw')]), /Input\/output error/);
    assert.equal(connection.failure?.error, error);
  });

  describe('with a client of its own', () => {
    let socket: Socket;
    let received = Buffer.alloc(0);
    const bytes = async (count: number): Promise<Buffer> => {
      while (received.length < count) await once(socket, 'data');
      const taken = received.subarray(0, count);
      received = received.subarray(count);
      return taken;
    };
    const request = (type: number, offset: bigint, length: number): Buffer => {
      const head = Buffer.alloc(28);
      head.writeUInt32BE(0x2560_9513, 0);
      head.writeUInt16BE(type, 6);
      head.writeBigUInt64BE(42n, 8);
      head.writeBigUInt64BE(offset, 16);
      head.writeUInt32BE(length, 24);
      return head;
    };
    const open = async (flags = 3): Promise<void> => {
      received = Buffer.alloc(0);
      socket = connect(path);
      socket.on('data', (chunk: Buffer) => (received = Buffer.concat([received, chunk])));
      await bytes(18);
      socket.write(Buffer.from([0, 0, 0, flags]));
    };
    /** By the oldest option, which asks for nothing. */
    const begin = async (): Promise<void> => {
      await open();
      socket.write(Buffer.concat([Buffer.from('IHAVEOPT'), Buffer.from([0, 0, 0, 1, 0, 0, 0, 0])]));
      await bytes(10);
    };
    const errorOf = async (): Promise<number> => (await bytes(16)).readUInt32BE(4);

    it('refuses what is too long or outside, and goes on', async () => {
      exported = createDisk();
      await begin();
      socket.write(request(0, 0n, 32 * MIB + 1));
      assert.equal(await errorOf(), 22);
      socket.write(request(0, BigInt(SIZE), 1));
      assert.equal(await errorOf(), 22);
      socket.write(request(0, 2n ** 64n - 1n, 1));
      assert.equal(await errorOf(), 22);
      socket.write(request(99, 0n, 0));
      assert.equal(await errorOf(), 22);
      socket.write(Buffer.concat([request(1, BigInt(SIZE), 3), Buffer.from('abc')]));
      assert.equal(await errorOf(), 28);
      socket.write(request(4, 0n, SIZE + 1));
      assert.equal(await errorOf(), 28);
      socket.write(request(0, 0n, 4));
      assert.equal(await errorOf(), 0);
      assert.equal((await bytes(4)).length, 4);
      socket.write(request(2, 0n, 0));
      await once(socket, 'close');
      assert.equal(connection.failure, undefined);
    });

    it('holds no more than 32 MiB for a client that asks and does not read', async () => {
      let asked = 0;
      exported = { size: 2 ** 40, read: async (_, target) => void (asked += target.length) };
      await begin();
      socket.pause();
      for (let count = 0; count < 100; count += 1) socket.write(request(0, 0n, 8 * MIB));
      await sleep(300);
      assert.ok(asked <= 32 * MIB, `${asked} bytes`);
      socket.destroy();
      await connection.ended;
    });

    for (const [name, flags, sent] of [
      ['unknown client flags', 7, Buffer.alloc(0)],
      ['an option that is none', 3, Buffer.alloc(16)],
      ['an option without end', 3, Buffer.concat([Buffer.from('IHAVEOPT'), Buffer.alloc(8, 0xff)])],
      ['a name', 3, Buffer.concat([Buffer.from('IHAVEOPT'), Buffer.from([0, 0, 0, 1, 0, 0, 0, 1, 65])])],
    ] as const)
      it(`sends a client away for ${name}`, async () => {
        exported = createDisk();
        await open(flags);
        socket.write(sent);
        await once(socket, 'close');
        await connection.ended;
      });

    it('sends a client away for something that is no request', async () => {
      exported = createDisk();
      await begin();
      socket.write(Buffer.alloc(28, 1));
      await once(socket, 'close');
      assert.equal(connection.requests, 0);
    });
  });
});
