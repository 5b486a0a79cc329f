import type { ImageFacts } from '../types.js';
import type { Checkpoints } from './checkpoints.js';
import type { ConvertJob } from './convert-job.js';
import { qcow2Map } from './formats/qcow2/disk-map.js';
import type { Qcow2Header } from './formats/qcow2/header.js';
import { createL2Tables, readL1 } from './formats/qcow2/tables.js';
import { openLayer, type Layer } from './layers/open-layer.js';
import type { Meter } from './meter.js';
import type { KnownTables } from './one-pass.js';
import { openImage, type OpenedImage } from './open-image.js';
import type { PlannedImage } from './plan-image.js';
import type { ReadOutcome, Sink } from './progress.js';
import { copyRanged, rawMap, type DiskMap } from './ranged.js';
import { copyRaw } from './raw.js';
import { isStreamable } from './read-plan.js';
import { scratchRequired, invalid, whyScratch } from './refusals.js';
import type { Durable } from './resume-record.js';
import { keepInScratch } from './scratch.js';
import { assertFits } from './size.js';
import { boundedImage, isAsLongAsAnnounced, mostImageBytes } from './source/bounded.js';
import type { ImageSource } from './source/types.js';
import type { SparseWriter } from './writer.js';

/** What a read plan is carried out with. */
export interface Reading {
  readonly job: ConvertJob;
  readonly planned: PlannedImage;
  readonly writer: SparseWriter;
  readonly durable: Durable;
  readonly checkpoints: Checkpoints;
  readonly meter: Meter;
  /** The target holds data although nothing counts as durable. */
  readonly dirty?: boolean;
}

/** What reading an image came to. */
export interface Read extends ReadOutcome {
  /** Bytes that were kept in scratch space. */
  readonly scratchBytes: number;
}

/** Carries out the read plan: every byte of the image is in the target when it resolves, and the source's checksum is right. */
export async function readImage(reading: Reading): Promise<Read> {
  const { opened, facts } = reading.planned;
  if (facts.scratch !== undefined) return await readFromScratch(reading, facts.scratch);
  if (facts.plan === 'one-pass') return await readInOrderOrFromScratch(reading);
  return { ...(await readInAnyOrder(reading, opened)), scratchBytes: 0 };
}

/** One pass, as long as it meets nothing that its plan could not foresee; then, if there is scratch space, all over from there. */
async function readInOrderOrFromScratch(reading: Reading): Promise<Read> {
  const { job, durable, checkpoints } = reading;
  try {
    return { ...(await readInOrder(reading)), scratchBytes: 0 };
  } catch (error) {
    const why = whyScratch(error);
    if (why === undefined || job.scratch === undefined) throw error;
    // records of the one pass hold, and are in other offsets than what follows
    const silent = { ...checkpoints, offer: async () => undefined };
    const again = { ...reading, durable: { ...durable, completed: 0 }, checkpoints: silent, dirty: true };
    return await readFromScratch(again, why);
  }
}

/** The file inside the containers is kept first, then looked at anew and read in any order; the stream's end proves it whole. */
async function readFromScratch(reading: Reading, why: string): Promise<Read> {
  const { job, meter, planned } = reading;
  const { view, format, qcow2, foreign } = planned.opened;
  const known = isAsLong(planned.opened) ? undefined : (qcow2?.virtualSize ?? foreign?.virtualSize);
  const keeping = fetched(reading);
  if (job.scratch === undefined) throw scratchRequired(why);
  meter.say(`keeping the image in scratch space: ${why}`);
  await using copy = await keepInScratch(view, {
    directory: job.scratch,
    room: job.scratchRoom,
    signal: job.signal,
    ...(known === undefined ? {} : { mostBytes: mostImageBytes(known) }),
    onProgress: () => meter.at(half(keeping())),
  });
  using opened = await openImage(copy.source);
  if (opened.format !== format || opened.containers.length > 0)
    throw invalid(`${format} image turned out to be ${[...opened.containers, opened.format].join(' in ')}`);
  const virtualSize = opened.qcow2?.virtualSize ?? opened.foreign?.virtualSize;
  if (virtualSize !== undefined) assertFits(virtualSize, job.size);
  const rest = (part: number): number => 0.5 + part / 2;
  return { ...(await readInAnyOrder(reading, opened, rest)), scratchBytes: copy.scratchBytes };
}

/** Whether an image is a file that really has all of its bytes, be they snapshots and states of machines many times its disk. */
function isAsLong({ containers, facts }: OpenedImage): boolean {
  return containers.length === 0 && isAsLongAsAnnounced(facts);
}

/** Keeping the image is the first half of the work. */
function half(part: number | undefined): number | undefined {
  return part === undefined ? undefined : part / 2;
}

async function readInAnyOrder(
  reading: Reading,
  opened: OpenedImage,
  scale = (part: number): number => part,
): Promise<ReadOutcome> {
  const { qcow2, foreign, view, facts } = opened;
  const fileBytes = facts.validators.length ?? Infinity;
  if (foreign && foreign.rawLength === undefined) {
    const sink = createSink(reading, (completed) => scale(completed / foreign.virtualSize));
    const { copyForeign } = await import('./formats/foreign/convert.js');
    const copied = await copyForeign({ image: foreign, source: view, fileBytes }, sink);
    if (facts.provedInOrder) await prove(view, reading.job.signal);
    return copied;
  }
  if (reading.job.verbatim) {
    const { copyVolume } = await import('./clone/copy-volume.js');
    const volume = { source: view, bytes: fileBytes, job: reading.job };
    return await copyVolume(
      volume,
      createSink(reading, (completed) => scale(completed / fileBytes)),
    );
  }
  const map = qcow2 ? await mapOf(qcow2, view, fileBytes) : rawMap(foreign?.rawLength ?? fileBytes);
  const sink = createSink(reading, (completed) => scale(completed / map.virtualSize));
  return await copyRanged({ map, source: view, fileBytes }, sink);
}

/** Reads all that was used by ranges once more: the stream's end is the proof. */
async function prove(view: ImageSource, signal: AbortSignal): Promise<void> {
  for await (const _ of view.stream(0)) signal.throwIfAborted();
}

async function mapOf(header: Qcow2Header, source: ImageSource, fileBytes: number): Promise<DiskMap> {
  const { l1, l2 } = await fetchTables(header, source, fileBytes);
  return qcow2Map(header, l1, l2);
}

async function fetchTables(
  header: Qcow2Header,
  source: ImageSource,
  fileBytes: number | undefined,
): Promise<KnownTables> {
  const l1 = await readL1(header, source, fileBytes);
  return { l1, l2: createL2Tables(header, l1, source) };
}

async function readInOrder(reading: Reading): Promise<ReadOutcome> {
  const { job, planned, durable } = reading;
  const { opened } = planned;
  const { view, start } = await entered(reading);
  const sink = createSink(reading, fetched(reading), view);
  const bytes = view.stream(start);
  if (!opened.qcow2) return await copyDisk(reading, bytes, start, { ...sink, completed: durable.completed });
  const image = isAsLong(opened) ? bytes : boundedImage(bytes, opened.qcow2.virtualSize);
  const { copyQcow2 } = await import('./one-pass.js');
  return await copyQcow2(image, { size: job.size, ...onePassOptions(reading, opened.qcow2) }, sink);
}

/** A disk as it lies in the file, with or without the footer of a VHD behind it. */
async function copyDisk(
  { job, planned }: Reading,
  bytes: AsyncIterable<Buffer>,
  start: number,
  sink: Sink,
): Promise<ReadOutcome> {
  const { foreign, endUnseen } = planned.opened;
  if (foreign?.rawLength !== undefined)
    return await copyRaw(beginningOf(bytes, foreign.rawLength - start), start, job.size, sink);
  // the end was looked at where it can be; whoever asks for raw, or clones a volume, gets every byte
  if (!endUnseen) return await copyRaw(bytes, start, job.size, sink);
  const { watchVhdFooter } = await import('./formats/foreign/vhd-footer-stream.js');
  const watched = watchVhdFooter(bytes, start);
  const copied = await copyRaw(watched.bytes, start, job.size, sink);
  const vhd = watched.found();
  if (!vhd) return copied;
  // a geometry may count less than there is
  if (vhd.rawLength < copied.virtualSize) await eraseFrom(vhd.rawLength, copied.virtualSize, { job, sink });
  return { virtualSize: vhd.rawLength, format: 'vhd' };
}

/** Takes back what was written from `start` to `end`, the end of the data. */
async function eraseFrom(
  start: number,
  end: number,
  { job: { target, size }, sink: { writer } }: { job: ConvertJob; sink: Sink },
): Promise<void> {
  if (target.deviceBytes !== undefined) return await writer.zero(start, end);
  await writer.truncate(start);
  if (!size.fit) await writer.truncate(size.usableBytes);
}

/** The first `length` bytes; what follows them (the footer of a VHD) is read as well, for the stream's end proves it whole. */
async function* beginningOf(bytes: AsyncIterable<Buffer>, length: number): AsyncGenerator<Buffer> {
  let left = length;
  for await (const chunk of bytes) {
    if (left > 0) yield chunk.subarray(0, left);
    left -= Math.min(left, chunk.length);
  }
}

/**
 * Where a raw disk can be entered: at any byte, or where a member or frame of its compressor begins; with a checksum not there,
 * since the bytes as served are needed from the first one and the disk holds others.
 */
async function entered({ job, planned, durable }: Reading): Promise<{ view: ImageSource; start: number }> {
  const { opened, root } = planned;
  const { view, facts, containers, format } = opened;
  if (format !== 'raw') return { view, start: 0 };
  if (facts.seekable) return { view, start: durable.completed };
  const restart = job.checksum === undefined ? durable.restart : undefined;
  const [only] = containers;
  if (!restart || containers.length !== 1 || (only !== 'gz' && only !== 'zst')) return { view, start: 0 };
  return { view: await openLayer(only satisfies Layer, root, restart), start: restart.outer };
}

/** A qcow2 behind ranges that is read in order has its tables fetched first, if they may lie behind the data. */
function onePassOptions(
  { job, planned }: Reading,
  header: Qcow2Header,
): { fileBytes?: number; tables?: (header: Qcow2Header) => Promise<KnownTables> } {
  const { opened, facts } = planned;
  const plain = opened.containers.length === 0;
  if (!plain && !opened.facts.ranges) return {};
  const fileBytes = opened.facts.validators.length;
  // the view of a source with a checksum has no ranges
  const [ranges, source] = plain ? [facts.ranges, job.source] : [opened.facts.ranges, opened.view];
  return {
    ...(fileBytes === undefined ? {} : { fileBytes }),
    ...(ranges && !isStreamable(header)
      ? { tables: (known: Qcow2Header) => fetchTables(known, source, fileBytes) }
      : {}),
  };
}

/** Part of the source that was fetched, where its length is known; what this attempt need not fetch counts as well. */
function fetched({ job, planned, durable }: Reading): () => number | undefined {
  const { validators, virtualSize }: ImageFacts = planned.facts;
  const { length } = validators;
  const before = job.source.bytesRead;
  if (!length) return () => undefined;
  const skipped =
    planned.opened.facts.seekable && virtualSize ? (durable.completed / virtualSize) * length : 0;
  return () => (skipped + job.source.bytesRead - before) / length;
}

function createSink(
  reading: Reading,
  fraction: (completed: number) => number | undefined,
  view?: ImageSource,
): Sink {
  const { job, writer, durable, checkpoints, meter } = reading;
  const { deviceBytes } = job.target;
  return {
    writer,
    diskBytes: job.size.fit ? Infinity : job.size.usableBytes,
    ...(deviceBytes === undefined ? {} : { deviceBytes }),
    existing: reading.dirty ?? durable.completed > 0,
    completed: durable.completed,
    signal: job.signal,
    at: (done) => meter.at(fraction(done)),
    async checkpoint(completed, flush, last) {
      meter.at(fraction(completed));
      const restart = job.checksum === undefined ? () => view?.restartPoint?.(completed) : undefined;
      await checkpoints.offer(completed, { flush, restart, last });
    },
  };
}
