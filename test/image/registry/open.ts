import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import {
  createRegistrySource,
  type RegistrySource,
} from '../../../activities/image/registry/registry-source.js';
import type { RegistryRequest, SourceOptions } from '../../../activities/image/source/types.js';
import type { RunningServer } from '../../support/servers/index.js';

/** A raw disk of 3 MiB and a bit: longer than the probe's head, and no multiple of anything. */
export const DISK = randomBytes(3 * 1024 * 1024 + 12_345);
// what is random may begin like a gzip
DISK.fill(0, 0, 512);

/** Opens sources and servers for one suite, and ends them after each test. */
export interface Bench {
  open(
    url: string,
    request?: Partial<RegistryRequest>,
    options?: Partial<SourceOptions>,
  ): Promise<{ source: RegistrySource; notices: string[]; abort: AbortController }>;
  serve<S extends RunningServer>(server: Promise<S>): Promise<S>;
}

/** Call inside `describe`. */
export function useBench(): Bench {
  const ends: (() => unknown)[] = [];
  afterEach(async () => {
    for (const end of ends.splice(0)) await end();
  });
  return {
    async open(url, request = {}, options = {}) {
      const notices: string[] = [];
      const abort = new AbortController();
      const source = await createRegistrySource(
        { kind: 'registry', url, insecure: true, ...request },
        {
          policy: { allowed: ['127.0.0.0/8'], denied: [] },
          signal: abort.signal,
          notice: (message) => notices.push(message),
          backoffMs: 1,
          maxReconnects: 2,
          ...options,
        },
      );
      ends.push(() => source.close());
      return { source, notices, abort };
    },
    async serve(starting) {
      const server = await starting;
      ends.push(() => server.close());
      return server;
    },
  };
}

/** `docker://` for an image of a server on loopback. */
export const addressOf = ({ port }: { readonly port: number }, name = 'team/disk:v1'): string =>
  `docker://127.0.0.1:${port}/${name}`;

/** The probe and all bytes of a source, which must be those of the disk. */
export async function assertDelivers(source: RegistrySource, disk: Buffer = DISK): Promise<void> {
  const facts = await source.probe();
  assert.ok(facts.head.equals(disk.subarray(0, 1024 * 1024)), 'head of the disk');
  const chunks: Buffer[] = [];
  for await (const chunk of source.stream(0)) chunks.push(chunk);
  assert.ok(Buffer.concat(chunks).equals(disk), 'bytes of the disk');
  assert.deepEqual([facts.validators.length, facts.ranges, facts.seekable], [disk.length, false, false]);
}
