import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, readlinkSync, rmSync, statSync } from 'node:fs';
import { makePatterned, makeRaw, MIB, qemuImg, useDirectory } from './support/images.js';
import { makeMappedTwice } from './support/mapped-twice.js';
import { refusal } from './support/refused.js';
import { serveFile } from './support/serve.js';
import { isOfUser, moversOf, reserve, until, USER } from './support/transfer.js';

const DISK = 16 * MIB;

describe('transferImage with scratch space', function () {
  this.timeout(120_000);
  const directory = useDirectory();
  let raw = '';
  let packed = '';
  before(() => {
    raw = makeRaw(`${directory()}/disk.raw`, DISK);
    qemuImg('convert', '-f', 'raw', '-O', 'vmdk', raw, `${directory()}/disk.vmdk`);
    execFileSync('gzip', ['-1', '-k', `${directory()}/disk.vmdk`]);
    packed = `${directory()}/disk.vmdk.gz`;
  });
  const assertSame = (disk: string, expected = raw): void =>
    assert.match(qemuImg('compare', '-f', 'raw', '-F', 'raw', disk, expected), /identical/);

  it('refuses a VMDK in gz without any, for good, and says why', async () => {
    await using server = await serveFile(packed);
    const { start, disk } = await reserve(directory(), server, DISK);
    const message = /^image cannot be streamed and would need scratch space: .*VMDK.*inside gz/;
    await assert.rejects(start().done, refusal('ScratchSpaceRequired', message, true));
    assert.equal(statSync(disk).blocks, 0);
  });

  it('keeps it there, as user 107, in a file that has no name and is gone afterwards', async () => {
    await using server = await serveFile(packed);
    server.rate = 4 * MIB;
    const { start, disk, reserveScratch } = await reserve(directory(), server, DISK);
    const scratch = await reserveScratch(DISK);
    const place = `${scratch.directory.pool}/${scratch.directory.directory}`;
    const attempt = start(1, undefined, scratch);
    let kept = 0;
    await until(attempt.done, () => (kept = Math.max(kept, keptIn(place, disk))) > MIB);
    const [mover] = moversOf(disk);
    if (USER) assert.ok(isOfUser(mover ?? 0));
    assert.deepEqual(readdirSync(place), []);
    assert.match(
      attempt.beats.map(({ message = '' }) => message).join('\n'),
      /keeping the image in scratch space/,
    );
    server.rate = Infinity;
    const { scratchBytes = 0, format } = await attempt.done;
    assert.equal(format, 'vmdk');
    assert.ok(scratchBytes > MIB, `${scratchBytes} bytes`);
    assertSame(disk);
    assert.equal(keptIn(place, disk), 0);
  });

  it('frees it when the process is killed, and succeeds the second time', async () => {
    await using server = await serveFile(packed);
    server.rate = 4 * MIB;
    const { start, disk, reserveScratch } = await reserve(directory(), server, DISK);
    const scratch = await reserveScratch(DISK);
    const place = `${scratch.directory.pool}/${scratch.directory.directory}`;
    const attempt = start(1, undefined, scratch);
    await until(attempt.done, () => keptIn(place, disk) > 0);
    for (const pid of moversOf(disk)) process.kill(pid, 'SIGKILL');
    await assert.rejects(attempt.done, refusal('NodeUnavailable', /was killed/, false));
    assert.deepEqual([readdirSync(place), keptIn(place, disk)], [[], 0]);
    server.rate = Infinity;
    await start(2, undefined, scratch).done;
    assertSame(disk);
  });

  it('serves an image that turns out to need it on the way, after it was refused without', async () => {
    const image = `${directory()}/twice.qcow2`;
    const expected = `${directory()}/twice.expected`;
    makeMappedTwice(makePatterned(`${directory()}/twice.raw`, 8), image, expected);
    execFileSync('gzip', ['-1', '-k', image]);
    await using server = await serveFile(`${image}.gz`);
    const { start, disk, reserveScratch } = await reserve(directory(), server, 8 * MIB);
    await assert.rejects(start().done, refusal('ScratchSpaceRequired', /mapped twice/, true));
    const { scratchBytes = 0 } = await start(1, undefined, await reserveScratch(9 * MIB)).done;
    assert.ok(scratchBytes > 0);
    assertSame(disk, expected);
  });

  it('writes no more than was promised, and says what to ask for', async () => {
    await using server = await serveFile(packed);
    const { start, reserveScratch } = await reserve(directory(), server, DISK);
    const scratch = await reserveScratch(MIB);
    const message =
      /^image needs more than the 1048576 bytes of scratch space that claim dvflow-transfers\/prime-.*-scratch/;
    await assert.rejects(start(1, undefined, scratch).done, refusal('LargerPVCRequired', message, true));
  });

  it('whose directory has gone is tried again later, and nothing is kept elsewhere', async () => {
    await using server = await serveFile(packed);
    const { start, reserveScratch, pool } = await reserve(directory(), server, DISK);
    const scratch = await reserveScratch(DISK);
    rmSync(`${pool}/${scratch.directory.directory}`, { recursive: true });
    await assert.rejects(
      start(1, undefined, scratch).done,
      refusal('ScratchUnavailable', /^scratch directory .* is not there any more$/, false),
    );
    await assert.rejects(
      start(2, undefined, { ...scratch, directory: { ...scratch.directory, directory: 'pvc-other' } }).done,
      refusal('ScratchUnavailable', /pvc-other/, false),
    );
  });
});

/** Bytes of nameless files of a directory that a byte mover holds open. */
function keptIn(place: string, disk: string): number {
  let bytes = 0;
  for (const pid of moversOf(disk)) {
    for (const fd of readdirSync(`/proc/${pid}/fd`)) {
      const path = `/proc/${pid}/fd/${fd}`;
      try {
        if (/\(deleted\)$/.test(readlinkSync(path)) && readlinkSync(path).startsWith(`${place}/`))
          bytes += statSync(path).blocks * 512;
      } catch {
        // closed meanwhile
      }
    }
  }
  return bytes;
}
