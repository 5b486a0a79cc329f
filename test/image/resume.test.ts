import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, truncateSync, writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { failureTypeOf } from '../../activities/failures.js';
import {
  createRecordStore,
  EMPTY_RECORD,
  FencedError,
  prove,
  type ResumeRecord,
} from '../../activities/image/resume-record.js';
import type { ImageFacts, TransferProgress } from '../../activities/types.js';
import { convertFile, type ConvertTestOptions } from './support/convert.js';
import { makePatterned, MIB, qemuImg, qemuIo, sha256, useDirectory } from './support/images.js';

const BYTES = 40 * MIB;

describe('resume', function () {
  this.timeout(120_000);
  const directory = useDirectory();
  let raw = '';
  const images: Record<string, string> = {};

  before(() => {
    raw = makePatterned(`${directory()}/disk.raw`, 40);
    qemuIo(raw, 'raw', 'write -z 5M 3M', 'write -z 20M 9M');
    const make = (name: string, ...options: string[]): string => {
      images[name] = `${directory()}/${name}`;
      qemuImg('convert', '-f', 'raw', '-O', 'qcow2', ...options, raw, images[name]);
      return images[name];
    };
    images['raw'] = raw;
    make('qcow2');
    make('out-of-order', '-W', '-m', '8');
    make('compressed', '-c');
    for (const [tool, suffix] of [
      ['gzip', 'gz'],
      ['xz', 'xz'],
    ] as const)
      for (const name of ['raw', 'qcow2', 'out-of-order', 'compressed']) {
        execFileSync('sh', ['-c', `${tool} -1 < ${images[name]} > ${directory()}/${name}.${suffix}`]);
        images[`${name}.${suffix}`] = `${directory()}/${name}.${suffix}`;
      }
  });

  const cases: readonly (readonly [string, Partial<ConvertTestOptions>])[] = [
    ['raw', {}],
    ['raw', { ranges: false }],
    ['raw', { checksum: 'yes' }],
    ['qcow2', {}],
    ['qcow2', { ranges: false }],
    ['qcow2', { checksum: 'yes' }],
    ['out-of-order', {}],
    ['out-of-order', { ranges: false }],
    ['compressed', {}],
    ['compressed', { ranges: false }],
    ['raw.gz', { checksum: 'yes' }],
    ['raw.xz', {}],
    ['qcow2.gz', {}],
    ['out-of-order.xz', {}],
    ['compressed.gz', {}],
  ];
  for (const [name, variant] of cases) {
    it(`ends with the same disk after four failures: ${name} ${JSON.stringify(variant)}`, async () => {
      const image = images[name]!;
      const target = `${directory()}/target-${cases.findIndex((one) => one[0] === name && one[1] === variant)}.img`;
      const checksum = variant.checksum ? { checksum: `sha256:${sha256(image)}` } : {};
      const size = readFileSync(image).length;
      const options = {
        usableBytes: BYTES,
        // each record syncs the disk
        checkpointEvery: { everyBytes: Math.ceil(size / 40), everyMs: Infinity },
        ...variant,
        ...checksum,
      };
      const completed: number[] = [];
      for (let fence = 1; fence <= 4; fence += 1) {
        const failAfter = 1_100_000 + Math.floor((size * fence) / 5);
        const failed = await convertFile(image, target, { ...options, fence, failAfter }).catch(
          (error: unknown) => error,
        );
        // an attempt that goes on in the middle may reach the end
        if (failed instanceof Error) assert.equal(failureTypeOf(failed), 'SourceUnavailable', String(failed));
        completed.push(
          (JSON.parse(readFileSync(`${target}.record/record.json`, 'utf8')) as ResumeRecord).durable
            ?.completed ?? 0,
        );
      }
      assert.ok(
        completed.every((offset, index) => offset >= (completed[index - 1] ?? 0)),
        `never backwards: ${completed.join()}`,
      );
      const progress: TransferProgress[] = [];
      const result = await convertFile(image, target, { ...options, fence: 5, progress });
      assert.equal(sha256(target), sha256(raw));
      assert.equal(result.checksum, checksum.checksum);
      if (completed[3]! > 0 && !progress.every(({ message }) => message === undefined))
        assert.match(
          progress.map(({ message }) => message ?? '').join('\n'),
          /resuming at offset|reading the source again|held to no checksum/,
        );
    });
  }

  /** A disk that no compressor makes smaller. */
  function makeNoise(): string {
    const path = `${directory()}/noise.raw`;
    // whose beginning could be that of a gzip
    writeFileSync(path, randomBytes(BYTES).fill(0, 0, 512));
    return path;
  }

  for (const [tool, suffix] of [
    ['gzip', 'gz'],
    ['zstd', 'zst'],
  ] as const)
    it(`verifies all members of a ${suffix}, though it could enter the ${suffix} at one of them`, async () => {
      const image = `${directory()}/members.raw.${suffix}`;
      const disk = makeNoise();
      execFileSync('sh', ['-c', `split -b 6M --filter='${tool} -q -1' ${disk} > ${image}`]);
      const target = `${directory()}/members-${suffix}.img`;
      const options = {
        usableBytes: BYTES,
        checkpointEvery: { everyBytes: 1, everyMs: 0 },
        checksum: `sha256:${sha256(image)}`,
      };
      const failAfter = Math.floor(readFileSync(image).length * 0.7);
      const failed: unknown = await convertFile(image, target, { ...options, failAfter }).catch(
        (error: unknown) => error,
      );
      assert.equal(failureTypeOf(failed), 'SourceUnavailable');
      const result = await convertFile(image, target, { ...options, fence: 2 });
      assert.equal(result.resumedFrom, 0);
      assert.equal(result.checksum, options.checksum);
      assert.equal(sha256(target), sha256(disk));
    });

  for (const name of ['raw.gz', 'qcow2', 'raw'] as const)
    it(`leaves nothing on a verified disk of what an attempt before was served wrongly: ${name}`, async () => {
      const target = `${directory()}/served-wrongly-${name}.img`;
      const image = name === 'raw.gz' ? makeNoisyGzip() : images[name]!;
      const disk = name === 'raw.gz' ? image.slice(0, -3) : raw;
      const options = {
        usableBytes: BYTES,
        chunk: MIB,
        ranges: name === 'qcow2',
        checkpointEvery: { everyBytes: 1, everyMs: Infinity },
        checksum: `sha256:${sha256(image)}`,
      };
      const wrong = `${directory()}/wrong-${name}`;
      writeFileSync(wrong, spoiled(readFileSync(disk === raw ? image : disk), name));
      truncateSync(wrong, readFileSync(image).length);
      const failAfter = Math.floor(readFileSync(image).length * 0.7);
      const failed: unknown = await convertFile(wrong, target, { ...options, failAfter }).catch(
        (error: unknown) => error,
      );
      assert.equal(failureTypeOf(failed), 'SourceUnavailable', String(failed));
      assert.ok(readFileSync(target).includes('EVIL'));
      const progress: TransferProgress[] = [];
      const result = await convertFile(image, target, { ...options, fence: 2, progress });
      assert.equal(sha256(target), sha256(disk));
      assert.equal(result.resumedFrom, 0);
      const said = 'starting from zero: what an earlier attempt has written is held to no checksum';
      assert.ok(progress.some(({ message }) => message === said));
    });

  /** A disk that has a hole, and that no compressor makes much smaller, in a gz. */
  function makeNoisyGzip(): string {
    const path = `${directory()}/noisy.raw`;
    writeFileSync(path, randomBytes(BYTES).fill(0, 6 * MIB, 7 * MIB));
    writeFileSync(`${path}.gz`, gzipSync(readFileSync(path), { level: 1 }));
    return `${path}.gz`;
  }

  /** The file with other bytes where its disk has some and where it has none, as a proxy may serve it once. */
  function spoiled(disk: Buffer, name: 'raw.gz' | 'qcow2' | 'raw'): Buffer {
    disk.write('EVIL', 4 * MIB);
    if (name !== 'qcow2') disk.fill('EVIL', 6 * MIB, 7 * MIB);
    return name === 'raw.gz' ? gzipSync(disk, { level: 1 }) : disk;
  }

  it('counts attempts that come no further as barren, though each begins anew', async () => {
    const target = `${directory()}/no-further.img`;
    const image = makeNoisyGzip();
    const options = {
      usableBytes: BYTES,
      chunk: MIB,
      checkpointEvery: { everyBytes: 1, everyMs: Infinity },
      checksum: `sha256:${sha256(image)}`,
    };
    const barren: number[] = [];
    for (const [index, mib] of [10, 10, 8, 15].entries()) {
      await assert.rejects(
        convertFile(image, target, { ...options, fence: index + 1, failAfter: mib * MIB }),
      );
      const record = readFileSync(`${target}.record/record.json`, 'utf8');
      barren.push((JSON.parse(record) as ResumeRecord).barren);
    }
    assert.deepEqual(barren, [0, 1, 2, 0]);
  });

  for (const [what, spoil] of [
    ['shorter', (path: string) => truncateSync(path, 5 * MIB)],
    ['another', (path: string) => (renameSync(path, `${path}.old`), writeFileSync(path, ''))],
  ] as const)
    it(`starts from zero when the target is ${what} than the one of the record, and of unknown size`, async () => {
      const target = `${directory()}/${what}.img`;
      const options = { usableBytes: BYTES, fit: true, checkpointEvery: { everyBytes: 1, everyMs: 0 } };
      const disk = makeNoise();
      const image = `${disk}.gz`;
      writeFileSync(image, gzipSync(readFileSync(disk), { level: 1 }));
      await assert.rejects(convertFile(image, target, { ...options, failAfter: 25 * MIB }));
      spoil(target);
      const progress: TransferProgress[] = [];
      const result = await convertFile(image, target, { ...options, fence: 2, progress });
      assert.equal(result.resumedFrom, 0);
      assert.equal(sha256(target), sha256(disk));
      const said = 'starting from zero: the target is not what the record describes';
      assert.ok(progress.some(({ message }) => message === said));
    });

  it('starts from zero, and says so, when the source is another one', async () => {
    const target = `${directory()}/changed.img`;
    const options = { usableBytes: BYTES, checkpointEvery: { everyBytes: 1, everyMs: 0 } };
    await assert.rejects(convertFile(raw, target, { ...options, failAfter: 20 * MIB }));
    const other = makePatterned(`${directory()}/other.raw`, 40);
    const progress: TransferProgress[] = [];
    const result = await convertFile(other, target, { ...options, fence: 2, etag: '"v2"', progress });
    assert.equal(result.resumedFrom, 0);
    assert.equal(sha256(target), sha256(other));
    assert.ok(progress.some(({ message }) => message === 'starting from zero: the source has changed'));
  });

  for (const [name, etag, date, resumes] of [
    ['the same strong ETag under another date', '"v1"', 'Tue, 24 Nov 2026 10:00:00 GMT', true],
    ['the same weak ETag under another date', 'W/"v1"', 'Tue, 24 Nov 2026 10:00:00 GMT', false],
    ['the same weak ETag under the same date', 'W/"v1"', 'Mon, 23 Nov 2026 10:00:00 GMT', true],
    ['a strong ETag where there was none', '"v1"', 'Mon, 23 Nov 2026 10:00:00 GMT', false],
  ] as const)
    it(`${resumes ? 'goes on' : 'starts from zero'} with ${name}`, () => {
      const identity = { format: 'raw', containers: [], plan: 'ranged' } as const;
      const validators = { lastModified: 'Mon, 23 Nov 2026 10:00:00 GMT', length: 7 };
      const durable = { ...identity, diskBytes: 7, completed: 5, bytesWritten: 5 };
      const known = name.endsWith('there was none') ? validators : { ...validators, etag };
      const image: ImageFacts = {
        ...identity,
        displayUrl: 'https://host/disk',
        validators: { etag, lastModified: date, length: 7 },
        ranges: true,
        resume: 'exact',
        reason: '',
      };
      const proof = prove({ ...EMPTY_RECORD, durable: { ...durable, validators: known } }, image, 7);
      assert.equal(proof !== undefined && 'durable' in proof, resumes);
    });

  it('reads in one pass from the start when ranges are lost', async () => {
    const target = `${directory()}/lost.img`;
    const progress: TransferProgress[] = [];
    await convertFile(images['qcow2']!, target, { usableBytes: BYTES, loseRangesAfter: 10 * MIB, progress });
    assert.equal(sha256(target), sha256(raw));
    assert.ok(progress.some(({ message }) => message?.includes('no longer answers ranges')));
  });

  it('counts attempts in a row without a durable byte', async () => {
    const target = `${directory()}/barren.img`;
    const record = (): ResumeRecord =>
      JSON.parse(readFileSync(`${target}.record/record.json`, 'utf8')) as ResumeRecord;
    for (const fence of [1, 2])
      await assert.rejects(convertFile(raw, target, { usableBytes: BYTES, fence, failAfter: 10 }));
    assert.equal(record().barren, 2);
    const soon = { everyBytes: 1, everyMs: 0 };
    await assert.rejects(
      convertFile(raw, target, { usableBytes: BYTES, fence: 3, failAfter: 10 * MIB, checkpointEvery: soon }),
    );
    assert.equal(record().barren, 0);
  });

  it('refuses an attempt that a later one has replaced', async () => {
    const store = createRecordStore(directory());
    await store.save({ ...EMPTY_RECORD, fence: 2 });
    await assert.rejects(store.save({ ...EMPTY_RECORD, fence: 1 }), FencedError);
    assert.equal((await store.load()).fence, 2);
  });

  it('removes records that killed attempts have left unfinished', async () => {
    const left = `${directory()}/left`;
    mkdirSync(left);
    const store = createRecordStore(left);
    await store.save({ ...EMPTY_RECORD, fence: 2 });
    for (const name of ['record.1.tmp', 'record.2.tmp', 'record.7.tmp', 'lock'])
      writeFileSync(`${left}/${name}`, '{"ver');
    await store.save({ ...EMPTY_RECORD, fence: 3 });
    // a later attempt may be writing its own just now
    assert.deepEqual(readdirSync(left).toSorted(), ['lock', 'record.7.tmp', 'record.json']);
  });

  it('takes a record that cannot be read for none', async () => {
    writeFileSync(`${directory()}/record.json`, '{"version":1,"fen');
    assert.deepEqual(await createRecordStore(directory()).load(), EMPTY_RECORD);
  });

  it('records what is written when it is told to stop, though no record is due', async () => {
    const target = `${directory()}/told.img`;
    const content = makePatterned(`${directory()}/told.raw`, 96);
    const image = `${directory()}/told.qcow2`;
    qemuImg('convert', '-f', 'raw', '-O', 'qcow2', content, image);
    const stopping = new AbortController();
    const options = { usableBytes: 96 * MIB, checkpointEvery: { everyBytes: Infinity, everyMs: Infinity } };
    const running = convertFile(image, target, {
      ...options,
      signal: stopping.signal,
      onRead: (bytes) => bytes > 80 * MIB && stopping.abort(new Error('stopped')),
    });
    await assert.rejects(running, /stopped/);
    const result = await convertFile(image, target, { ...options, fence: 2 });
    assert.ok(result.resumedFrom > 0, 'the second attempt goes on where the first was stopped');
    assert.equal(sha256(target), sha256(content));
  });

  it('issues no write after it was told to stop', async () => {
    const stopping = new AbortController();
    const target = `${directory()}/stopped.img`;
    const progress: TransferProgress[] = [];
    const running = convertFile(raw, target, {
      usableBytes: BYTES,
      signal: stopping.signal,
      progress,
      chunk: 1000,
    });
    setImmediate(() => stopping.abort(new Error('stopped')));
    await assert.rejects(running, /stopped/);
    const after = sha256(target);
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(sha256(target), after);
    assert.notEqual(after, sha256(raw));
  });
});
