/** The files of an archive's volume as a tar, over a data port; it cannot be entered in the middle. */
import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { failureTypeOf, transientFailure } from '../../failures.js';
import { HEAD_BYTES } from '../source/streamed-source.js';
import type { ImageSource, SourceFacts, SourceOptions } from '../source/types.js';
import { createDataPortClient, type DataPortAddress, failureBehind } from './data-port-client.js';
import { formatDigest } from './volume-protocol.js';

/** The archive behind this address; it is asked for once, and ends only when its digest is right. */
export function createRemoteTree(
  volume: DataPortAddress,
  options: Pick<SourceOptions, 'signal' | 'notice' | 'backoffMs' | 'stallMs'>,
): ImageSource {
  const client = createDataPortClient(volume, options);
  const digest = createHash('sha256');
  let bytesRead = 0;
  let state: string | undefined;
  let opened:
    Promise<{ facts: SourceFacts; rest: AsyncIterator<Buffer>; response: IncomingMessage }> | undefined;

  async function begin(): Promise<Awaited<NonNullable<typeof opened>>> {
    const response = await client.open('');
    const rest = chunksOf(response);
    const chunks: Buffer[] = [];
    for (let bytes = 0; bytes < HEAD_BYTES;) {
      const next = await rest.next();
      if (next.done) break;
      chunks.push(next.value);
      bytes += next.value.length;
    }
    const facts = {
      displayUrl: volume.name,
      ranges: false,
      seekable: false,
      validators: {},
      head: Buffer.concat(chunks),
    };
    return { facts, rest, response };
  }

  async function* chunksOf(response: IncomingMessage): AsyncGenerator<Buffer> {
    try {
      for await (const chunk of response as AsyncIterable<Buffer>) {
        bytesRead += chunk.length;
        digest.update(chunk);
        yield chunk;
      }
    } catch (error) {
      if (failureTypeOf(error) !== undefined) throw error;
      options.signal.throwIfAborted();
      throw transientFailure(
        'SourceUnavailable',
        `${volume.name}: the archive broke off after ${bytesRead} bytes`,
      );
    }
  }

  async function* stream(start: number): AsyncGenerator<Buffer> {
    if (start > 0) throw new Error('the files of a volume cannot be entered in the middle');
    const { facts, rest, response } = await (opened ??= begin());
    yield facts.head;
    for (let next = await rest.next(); !next.done; next = await rest.next()) yield next.value;
    prove(response);
  }

  function prove(response: IncomingMessage): void {
    const failure = failureBehind(response, volume.name);
    if (failure) throw failure;
    const { trailers } = response;
    state = trailers['dvflow-state'];
    if (trailers['content-digest'] !== formatDigest(digest.digest('base64')))
      throw transientFailure(
        'SourceUnavailable',
        `${volume.name}: the bytes that came are not those that were read`,
      );
  }

  /** Where the files are too many to be looked at in time, they are read again. */
  async function findState(): Promise<string | undefined> {
    if (opened) return state;
    try {
      const { headers } = await client.ask('HEAD', '', {});
      return headers['dvflow-state'] as string | undefined;
    } catch {
      options.signal.throwIfAborted();
      return undefined;
    }
  }

  return {
    state: findState,
    probe: async () => (await (opened ??= begin())).facts,
    stream,
    readInto: async () => {
      throw new Error('the files of a volume have no ranges');
    },
    get bytesRead() {
      return bytesRead;
    },
    close: () => client.close(),
  };
}
