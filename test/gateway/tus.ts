/** A client of resumable uploads that asks step by step, as the protocol has it. */
import assert from 'node:assert/strict';
import type { PassThrough } from 'node:stream';
import type { Received, TestGateway } from './support.js';

export const MIB = 1024 * 1024;
export const PATH = '/tus/uploads';
export const TUS = { 'tus-resumable': '1.0.0' };

/** What a client sends. */
export interface TusClient {
  token: string;
  create(length: number, metadata?: Record<string, string>): Promise<Received>;
  /** Makes an upload and returns its address. */
  created(length: number, metadata?: Record<string, string>): Promise<string>;
  head(path: string, from?: TestGateway): Promise<Received>;
  patch(path: string, offset: number, body: Buffer | PassThrough, length?: number): Promise<Received>;
  /** The one session that there is on the node. */
  onlySession(): string;
}

/** A client of this gateway. */
export function createTusClient({ gateway, token }: { gateway: TestGateway; token: string }): TusClient {
  const client: TusClient = {
    token,

    async create(length, metadata = {}) {
      const pairs = Object.entries(metadata).map(
        ([key, value]) => `${key} ${Buffer.from(value).toString('base64')}`,
      );
      const headers = {
        ...TUS,
        'upload-length': String(length),
        ...(pairs.length ? { 'upload-metadata': pairs.join() } : {}),
      };
      return await gateway.send({ path: PATH, token: client.token, headers });
    },

    async created(length, metadata) {
      const { status, text, headers } = await client.create(length, metadata);
      assert.equal(status, 201, text);
      return new URL(String(headers['location']), `https://localhost${PATH}`).pathname;
    },

    async head(path, from = gateway) {
      return await from.send({ method: 'HEAD', path, token: client.token, headers: TUS });
    },

    async patch(path, offset, body, length) {
      const headers = {
        ...TUS,
        'upload-offset': String(offset),
        'content-type': 'application/offset+octet-stream',
        ...(length === undefined ? {} : { 'content-length': String(length) }),
      };
      return await gateway.send({ method: 'PATCH', path, token: client.token, body, headers });
    },

    onlySession: () => [...gateway.dataPort.sessions.keys()][0] ?? '',
  };
  return client;
}
