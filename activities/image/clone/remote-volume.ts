/** A volume of another node as a source: by ranges over its data port, each answer proved by its digest. */
import type { ApplicationFailure } from '@temporalio/common';
import { transientFailure } from '../../failures.js';
import type { ImageSource, SourceFacts, SourceOptions, Stretch } from '../source/types.js';
import { createDataPortClient, type DataPortAnswer } from './data-port-client.js';
import type { VolumeRequest } from './volume-request.js';
import { contentDigest, MAX_MAPPED, readMap } from './volume-protocol.js';

/** What is read. */
export type RemoteVolume = Pick<VolumeRequest, 'name'> & NonNullable<VolumeRequest['remote']>;

/** The volume behind this address. @throws see `ImageSource` */
export function createRemoteVolume(
  volume: RemoteVolume,
  options: Pick<SourceOptions, 'signal' | 'notice' | 'backoffMs' | 'stallMs'>,
): ImageSource {
  const client = createDataPortClient(volume, options);
  let bytesRead = 0;
  let probing: Promise<SourceFacts> | undefined;
  const known: { start: number; told: number; stretches: readonly Stretch[] } = {
    start: 0,
    told: 0,
    stretches: [],
  };

  async function probe(): Promise<SourceFacts> {
    const { headers } = await client.ask('HEAD', '', {});
    const { etag } = headers;
    const length = Number(headers['content-length']);
    if (!etag || !Number.isSafeInteger(length)) throw garbled(volume, 'has no length or validator');
    return {
      displayUrl: volume.name,
      ranges: true,
      seekable: true,
      validators: { etag, length },
      // nobody asks what a volume's disk looks like
      head: Buffer.alloc(0),
    };
  }

  async function pinned(): Promise<{ 'if-match': string }> {
    const { validators } = await (probing ??= probe());
    return { 'if-match': validators.etag ?? '' };
  }

  async function readInto(start: number, target: Uint8Array): Promise<void> {
    const range = `bytes=${start}-${start + target.length - 1}`;
    await client.retrying(async (ask) => {
      const answer = await ask('GET', '', { ...(await pinned()), range }, target);
      const said = answer.headers['content-range'];
      if (answer.status !== 206 || !said?.startsWith(`bytes ${start}-${start + target.length - 1}/`))
        throw garbled(volume, `answered ${answer.status} to a range`);
      prove(answer, target);
    });
    bytesRead += target.length;
  }

  /** A damaged answer is asked for again, like one that broke off. */
  function prove({ headers, trailers }: DataPortAnswer, body: Uint8Array): void {
    if ((trailers['content-digest'] ?? headers['content-digest']) === contentDigest(body)) return;
    throw transientFailure(
      'SourceUnavailable',
      `${volume.name}: the bytes that came are not those that were read`,
    );
  }

  async function learn(start: number, length: number): Promise<void> {
    const asked = { start, end: Math.min(start + MAX_MAPPED, length) };
    await client.retrying(async (ask) => {
      const answer = await ask('GET', `?extents=${asked.start}-${asked.end}`, await pinned());
      prove(answer, answer.body);
      try {
        Object.assign(known, { start, ...readMap(answer.body.toString(), asked) });
      } catch {
        throw garbled(volume, 'sent no extent map');
      }
    });
  }

  async function stretches(start: number, end: number): Promise<readonly Stretch[]> {
    const { validators } = await (probing ??= probe());
    const found: Stretch[] = [];
    for (let at = start; at < end;) {
      if (at < known.start || at >= known.told) await learn(at, validators.length ?? 0);
      const until = Math.min(end, known.told);
      found.push(...within(known.stretches, at, until));
      at = until;
    }
    return found;
  }

  async function* stream(start: number): AsyncGenerator<Buffer> {
    const { validators } = await (probing ??= probe());
    const PIECE = 1024 * 1024;
    for (let at = start; at < (validators.length ?? 0); at += PIECE) {
      const piece = Buffer.alloc(Math.min(PIECE, (validators.length ?? 0) - at));
      await readInto(at, piece);
      yield piece;
    }
  }

  return {
    probe: () => (probing ??= probe()),
    stream,
    readInto,
    stretches,
    async settle() {
      await client.ask('HEAD', '', await pinned());
    },
    get bytesRead() {
      return bytesRead;
    },
    close: () => client.close(),
  };
}

/** The parts of stretches, which are in order, between two offsets. */
function within(stretches: readonly Stretch[], start: number, end: number): Stretch[] {
  let low = 0;
  for (let high = stretches.length; low < high;) {
    const middle = (low + high) >>> 1;
    if ((stretches[middle]?.end ?? 0) <= start) low = middle + 1;
    else high = middle;
  }
  const found: Stretch[] = [];
  for (let index = low; index < stretches.length; index += 1) {
    const one = stretches[index];
    if (!one || one.start >= end) break;
    found.push({ start: Math.max(one.start, start), end: Math.min(one.end, end) });
  }
  return found;
}

function garbled({ name }: RemoteVolume, what: string): ApplicationFailure {
  return transientFailure('SourceUnavailable', `the data port of ${name} ${what}`);
}
