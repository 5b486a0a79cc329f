import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, copyFileSync, fstatSync, openSync, statSync, utimesSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { createFileSource } from '../../../activities/image/source/file-source.js';
import { deviceIdentity } from '../../../activities/image/target/target-identity.js';
import { openPaths } from '../../support/open-files.js';
import { makePatterned, MIB, useDirectory } from '../support/images.js';
import { useLoopDevices } from '../support/loop-device.js';

describe('a local file as a source', () => {
  const directory = useDirectory();
  const { signal } = new AbortController();
  let path: string;

  before(() => (path = makePatterned(`${directory()}/disk.raw`, 8)));

  function isOpen(): boolean {
    return openPaths().includes(path);
  }

  it('is closed after the reads under way', async () => {
    const source = createFileSource({ path }, { signal });
    const target = Buffer.alloc(8 * MIB);
    const reading = source.readInto(0, target);
    source.close();
    assert.ok(isOpen(), 'not under a read');
    await reading;
    assert.equal(target.toString('latin1', 7 * MIB, 7 * MIB + 3), '<7>');
    for (let tries = 0; tries < 1000 && isOpen(); tries += 1) await pause(10);
    assert.ok(!isOpen());
    await assert.rejects(source.readInto(0, target), /read after it was closed/);
  });

  it('says when it was written to while it was read', async () => {
    const copy = `${directory()}/written.raw`;
    copyFileSync(path, copy);
    const source = createFileSource({ path: copy }, { signal });
    await source.probe();
    await source.settle?.();
    utimesSync(copy, 1, 1);
    await assert.rejects(async () => source.settle?.(), /SourceChanged|written to while it was read/);
    source.close();
  });

  it('may be closed while a stream has read ahead that nobody goes on with', async () => {
    const source = createFileSource({ path }, { signal });
    const stream = source.stream(0)[Symbol.asyncIterator]();
    await stream.next();
    source.close();
    // time for a rejection that nobody handles
    await pause(50);
    const next = await stream.next();
    assert.ok(!next.done && next.value.toString('latin1', 0, 3) === '<1>', 'it was under way');
    await assert.rejects(stream.next(), /read after it was closed/);
  });

  it('leaves a descriptor open that it was given', async () => {
    const fd = openSync(path, 'r');
    const source = createFileSource({ fd, name: 'disk' }, { signal });
    await source.probe();
    source.close();
    await pause(20);
    assert.equal(fstatSync(fd).size, 8 * MIB);
    closeSync(fd);
  });
});

describe('a block device as a source', () => {
  const directory = useDirectory();
  const loops = useLoopDevices();
  const { signal } = new AbortController();

  /** As a file system on it does: the times of its node stay what they are. */
  function writeUnseen(device: string): void {
    const node = `${directory()}/node`;
    const { rdev } = statSync(device);
    execFileSync('mknod', [node, 'b', `${rdev >> 8}`, `${rdev & 0xff}`]);
    execFileSync('dd', ['if=/dev/zero', `of=${node}`, 'bs=1M', 'count=1', 'conv=notrunc'], {
      stdio: 'ignore',
    });
  }

  it('is another one after a write to it, whoever wrote, and says so when it was under way', async () => {
    const device = loops.make(`${directory()}/disk.raw`, 4 * MIB);
    const fd = openSync(device, 'r');
    const tells = deviceIdentity(fd) !== undefined;
    closeSync(fd);
    const etagOf = async (source: ReturnType<typeof createFileSource>): Promise<string | undefined> =>
      (await source.probe()).validators.etag;
    const first = createFileSource({ path: device }, { signal });
    const second = createFileSource({ path: device }, { signal });
    const etag = await etagOf(first);
    assert.equal(etag === undefined, !tells, 'a number alone promises nothing');
    assert.equal(await etagOf(second), etag);
    await first.settle?.();
    writeUnseen(device);
    await assert.rejects(async () => first.settle?.(), /written to while it was read/);
    const third = createFileSource({ path: device }, { signal });
    assert.ok(!tells || (await etagOf(third)) !== etag);
    for (const source of [first, second, third]) source.close();
  });
});
