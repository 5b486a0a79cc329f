import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRecordStore, EMPTY_RECORD } from '../../activities/image/resume-record.js';
import { planSteadily } from '../../activities/image/plan-image.js';
import type { ImageSource } from '../../activities/image/source/types.js';
import { openLocalDirectory } from '../../activities/image/target/local-target.js';
import { unpackImage } from '../../activities/image/unpack-image.js';
import type { TransferProgress } from '../../activities/types.js';
import { bufferContent, startContentServer } from '../support/servers/index.js';
import type { Behaviour, SeenRequest } from '../support/servers/index.js';
import { tarArchive, tarEntry } from './archive/tar.js';
import { useBench } from './source/open.js';
import { convertInto } from './support/convert-into.js';
import { makePatterned, MIB, qemuImg, sha256, useDirectory } from './support/images.js';
import { refusal } from './support/refused.js';

/** Machines behind one name that have the same bytes, and validators of their own: by number of the request. */
const CONTRADICTING: Record<string, (index: number, request: SeenRequest) => Behaviour> = {
  'a date that is always now': (index) => ({
    etag: '',
    lastModified: new Date(Date.UTC(2026, 10, 23, 10, 0, index)).toUTCString(),
  }),
  'an ETag of its own for each answer': (index) => ({ etag: `"${index}"` }),
  'an ETag with 206 only': (_, { headers }) => ({
    etag: headers.range && !headers['if-range'] ? '"v1"' : '',
  }),
  'an ETag with 200 only': (index, { headers }) =>
    index > 0 || !headers.range ? { ranges: false } : { etag: '' },
};
const SAID = /answers contradict each other .* now read in one answer$/u;

describe('a source whose answers contradict each other about its version', function () {
  this.timeout(60_000);
  const directory = useDirectory();
  const bench = useBench();
  let raw = '';
  const images: Record<string, string> = {};

  before(() => {
    raw = makePatterned(`${directory()}/disk.raw`, 16);
    images['raw'] = raw;
    for (const format of ['qcow2', 'vmdk']) {
      images[format] = `${directory()}/disk.${format}`;
      qemuImg('convert', '-f', 'raw', '-O', format, raw, images[format]);
    }
  });

  const open = (url: string): ImageSource => bench.open(url, {}, { pipelining: true }).source;
  const recordOf = (target: string) => createRecordStore(`${target}.record`);

  for (const [name, behaviour] of Object.entries(CONTRADICTING))
    for (const format of ['raw', 'qcow2'])
      it(`is read in one answer when it has ${name}: ${format}`, async () => {
        const bytes = readFileSync(images[format]!);
        const server = await bench.serve(startContentServer(bufferContent(bytes), behaviour));
        const target = `${directory()}/${format}-${Object.keys(CONTRADICTING).indexOf(name)}.img`;
        const said: (string | undefined)[] = [];
        await convertInto(open(server.url), target, { onProgress: ({ message }) => said.push(message) });
        assert.equal(sha256(target), sha256(raw));
        assert.ok(said.some((message) => SAID.test(message ?? '')));
        const { changes, contradicted } = await recordOf(target).load();
        assert.deepEqual({ changes, contradicted }, { changes: 1, contradicted: true });
        assert.equal(server.requests().at(-1)?.headers.range, undefined);
        using planned = await planSteadily(open(server.url), { scratch: true });
        assert.equal(planned.facts.format, format);
      });

  it('is held to its checksum', async () => {
    const behaviour = CONTRADICTING['a date that is always now']!;
    const server = await bench.serve(startContentServer(bufferContent(readFileSync(raw)), behaviour));
    const convert = async (checksum: string) =>
      await convertInto(open(server.url), `${directory()}/${checksum.slice(7, 11)}.img`, { checksum });
    await convert(`sha256:${sha256(raw)}`);
    const message = /^checksum mismatch: expected sha256:0+, calculated/u;
    await assert.rejects(convert(`sha256:${'0'.repeat(64)}`), refusal('ChecksumMismatch', message, true));
  });

  it('is a whole new image where it was replaced in truth by one of the same length', async () => {
    const old = readFileSync(raw);
    const fresh = Buffer.from(old).reverse();
    let bytes = old;
    const server = await bench.serve(
      startContentServer(
        () => bufferContent(bytes),
        (index) => {
          if (index > 2) bytes = fresh;
          return { etag: bytes === old ? '"v1"' : '"v2"' };
        },
      ),
    );
    const target = `${directory()}/replaced.img`;
    const progress: TransferProgress[] = [];
    const often = { everyBytes: 4 * MIB, everyMs: Infinity };
    const onProgress = (now: TransferProgress): number => progress.push(now);
    await convertInto(open(server.url), target, { onProgress, checkpointEvery: often });
    assert.ok(readFileSync(target).equals(fresh));
    assert.ok(progress.some(({ message }) => SAID.test(message ?? '')));
  });

  it('takes nothing over from an attempt that was killed, and vouches for nothing', async () => {
    const target = `${directory()}/killed.img`;
    mkdirSync(`${target}.record`);
    const validators = { etag: '"v1"', length: 16 * MIB };
    const durable = { validators, format: 'raw', containers: [], plan: 'one-pass' } as const;
    await recordOf(target).save({
      ...EMPTY_RECORD,
      changes: 1,
      contradicted: true,
      durable: { ...durable, diskBytes: 16 * MIB, completed: 8 * MIB, bytesWritten: 8 * MIB },
    });
    writeFileSync(target, Buffer.alloc(16 * MIB, 'x'));
    const bytes = readFileSync(raw);
    let sound = false;
    const server = await bench.serve(
      startContentServer(bufferContent(bytes), (index) =>
        sound ? {} : index === 0 ? { truncateAfter: 12 * MIB } : { status: 404 },
      ),
    );
    const often = { everyBytes: 4 * MIB, everyMs: Infinity };
    const failing = convertInto(open(server.url), target, { checkpointEvery: often });
    await assert.rejects(failing, refusal('SourceNotFound', /404/, true));
    const { durable: left, barren } = await recordOf(target).load();
    assert.deepEqual({ completed: left?.completed ?? 0, barren }, { completed: 0, barren: 1 });
    sound = true;
    await convertInto(open(server.url), target, { fence: 2, checkpointEvery: often });
    assert.equal(sha256(target), sha256(raw));
  });

  it('is given up at the third change, and read by ranges where one answer would need scratch space', async () => {
    const bytes = readFileSync(images['vmdk']!);
    let etag = (index: number): string => `"${index}"`;
    const server = await bench.serve(
      startContentServer(bufferContent(bytes), (index) => ({ etag: etag(index) })),
    );
    const target = `${directory()}/vmdk.img`;
    const attempt = async (fence: number) => await convertInto(open(server.url), target, { fence });
    await assert.rejects(attempt(1), refusal('SourceChanged', /ETag was/, false));
    await assert.rejects(attempt(2), refusal('SourceChanged', /changed 3 times/, true));
    await recordOf(target).save({ ...EMPTY_RECORD, fence: 3, changes: 1, contradicted: true });
    etag = () => '"v1"';
    await attempt(4);
    qemuImg('compare', '-f', 'raw', '-F', 'raw', target, raw);
  });

  it('is unpacked from one answer', async () => {
    const archive = tarArchive(tarEntry({ name: 'file' }, 'x'.repeat(9 * MIB)));
    const server = await bench.serve(
      startContentServer(bufferContent(archive), CONTRADICTING['a date that is always now']),
    );
    mkdirSync(`${directory()}/state`);
    const records = createRecordStore(`${directory()}/state`);
    await using target = await openLocalDirectory(`${directory()}/files`);
    await unpackImage({
      source: open(server.url),
      directory: target.handle,
      size: { claimName: 'team-a/files', usableBytes: 16 * MIB },
      records,
      fence: 1,
      attempt: 1,
      signal: new AbortController().signal,
    });
    assert.deepEqual(readdirSync(`${directory()}/files`), ['file']);
    assert.equal((await records.load()).changes, 1);
  });
});
