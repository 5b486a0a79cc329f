import type { ImageFacts } from '../types.js';
import type { Checkpoints } from './checkpoints.js';
import type { ConvertJob } from './convert.js';
import { decompress } from './decompress/chain.js';
import { createTap, hashTarget, newHash, type Tap } from './digest.js';
import { parseHeader, type Qcow2Header } from './formats/qcow2/header.js';
import { createL2Tables, readL1 } from './formats/qcow2/tables.js';
import type { Meter } from './meter.js';
import { copyQcow2, type KnownTables } from './one-pass.js';
import type { ReadOutcome, Sink } from './progress.js';
import { copyRanged } from './ranged.js';
import { copyRaw } from './raw.js';
import { isStreamable } from './read-plan.js';
import type { Durable } from './resume-record.js';
import type { SourceFacts } from './source/types.js';
import type { SparseWriter } from './writer.js';

/** What a read plan is carried out with. */
export interface Reading {
  readonly job: ConvertJob;
  readonly image: ImageFacts;
  readonly facts: SourceFacts;
  readonly writer: SparseWriter;
  readonly durable: Durable;
  readonly checkpoints: Checkpoints;
  readonly meter: Meter;
}

/** Carries out the read plan: every byte of the image is in the target's file when it resolves, and the checksum is right. */
export async function readImage(reading: Reading): Promise<ReadOutcome & { checksum?: string }> {
  return reading.image.plan === 'ranged' ? readRanged(reading) : readStream(reading);
}

async function readRanged(reading: Reading): Promise<ReadOutcome> {
  const { facts, job } = reading;
  const fileBytes = facts.validators.length ?? Infinity;
  const header = parseHeader(facts.head, fileBytes);
  const tables = await fetchTables(reading, header);
  const sink = createSink(reading, (completed) => completed / header.virtualSize);
  return copyRanged({ header, ...tables, source: job.source, fileBytes }, sink);
}

async function readStream(reading: Reading): Promise<ReadOutcome & { checksum?: string }> {
  const { image, job, durable, meter } = reading;
  const exact = image.format === 'raw' && image.resume === 'exact';
  const start = exact ? durable.completed : 0;
  const tap = await openTap(reading, start);
  const length = image.validators.length;
  const sink = createSink(reading, () => (length ? (start + tap.position) / length : undefined));
  try {
    const outcome = await copyStream(reading, tap, start, sink);
    if (job.checksum) meter.enter('verifying');
    const checksum = await tap.finish();
    return { ...outcome, ...(checksum === undefined ? {} : { checksum }) };
  } finally {
    await tap.close();
  }
}

/** Opens the stream; the digest of what is not read again comes from the target, which holds it byte for byte. */
async function openTap({ job, writer, meter }: Reading, start: number): Promise<Tap> {
  const hash = newHash(job.checksum);
  if (hash && start > 0) {
    meter.say(`completing the checksum from the ${start} bytes that are durable`);
    await hashTarget(hash, writer, start);
  }
  return createTap(job.source.stream(start), job.checksum, hash);
}

async function copyStream(reading: Reading, tap: Tap, start: number, sink: Sink): Promise<ReadOutcome> {
  const { image, facts, job } = reading;
  const bytes = decompress(tap.bytes, image.compression);
  if (image.format === 'raw') return copyRaw(bytes, start, job.size, sink);
  if (image.compression.length > 0) return copyQcow2(bytes, { size: job.size }, sink);
  const fileBytes = facts.validators.length;
  const tables = (header: Qcow2Header): Promise<KnownTables> => fetchTables(reading, header);
  const early = image.ranges && !isStreamable(parseHeader(facts.head, fileBytes));
  return copyQcow2(
    bytes,
    { size: job.size, ...(fileBytes === undefined ? {} : { fileBytes }), ...(early ? { tables } : {}) },
    sink,
  );
}

async function fetchTables({ job, facts }: Reading, header: Qcow2Header): Promise<KnownTables> {
  const l1 = await readL1(header, job.source, facts.validators.length);
  return { l1, l2: createL2Tables(header, l1, job.source) };
}

function createSink(reading: Reading, fraction: (completed: number) => number | undefined): Sink {
  const { job, writer, durable, checkpoints, meter } = reading;
  return {
    writer,
    diskBytes: job.size.usableBytes,
    existing: durable.completed > 0,
    completed: durable.completed,
    signal: job.signal,
    at: (done) => meter.at(fraction(done)),
    async checkpoint(completed, flush) {
      meter.at(fraction(completed));
      await checkpoints.offer(completed, flush);
    },
  };
}
