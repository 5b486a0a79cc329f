import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import type { GcsRequest, SourceOptions } from '../../../activities/image/source/types.js';
import { putGcsObject, startGcsServer, startTokenServer } from '../../support/servers/gcs-server.js';
import type { GcsServerOptions, TokenServerOptions } from '../../support/servers/gcs-server.js';
import { startGoServer, useGoProgram } from '../../support/servers/go-servers.js';
import type { GoServer } from '../../support/servers/go-servers.js';
import type { RunningServer } from '../../support/servers/index.js';
import { BYTES, collect, useBench } from './open.js';
import type { Bench, Opened } from './open.js';

/** Who the tests are at Google. */
export const EMAIL = 'importer@project.iam.gserviceaccount.com';

/** The key of a service account, in PEM. */
export const { privateKey, publicKey } = generateKeyPairSync('rsa', {
  modulusLength: 2048,
  privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  publicKeyEncoding: { type: 'spki', format: 'pem' },
});

/** The JSON of the key of {@link EMAIL}, whose tokens come from a server. */
export function serviceAccountKey(tokenServer: RunningServer, fields: object = {}): string {
  return JSON.stringify({
    type: 'service_account',
    client_email: EMAIL,
    private_key: privateKey,
    token_uri: `${tokenServer.url}/token`,
    ...fields,
  });
}

/** A store with `images/disk.img`, what stands before it, and sources that read from it. */
export interface GcsBench {
  readonly bench: Bench;
  /** What the token servers have handed out. */
  readonly tokens: Set<string>;
  readonly store: GoServer;
  readonly serve: (options?: Partial<GcsServerOptions>) => Promise<RunningServer>;
  readonly serveTokens: (options?: Partial<TokenServerOptions>) => Promise<RunningServer>;
  readonly open: (
    url: string,
    request?: Partial<GcsRequest>,
    options?: Partial<SourceOptions>,
  ) => Promise<Opened>;
  /** The JSON of a key whose tokens come from a server. */
  readonly keyFor: (tokenServer: RunningServer, fields?: object) => string;
}

/** Call inside `describe`. */
export function useGcs(): GcsBench {
  useGoProgram();
  const bench = useBench();
  const tokens = new Set<string>();
  let store: GoServer | undefined;
  before(async () => {
    store = await startGoServer('gcs');
    await putGcsObject(store, { bucket: 'images', name: 'disk.img' }, BYTES);
  });
  after(() => store?.end());
  beforeEach(() => tokens.clear());
  const stored = (): GoServer => {
    if (!store) throw new Error('the store is used outside of hooks and tests');
    return store;
  };
  return {
    bench,
    tokens,
    get store() {
      return stored();
    },
    serve: (options = {}) => bench.serve(startGcsServer({ store: stored(), ...options })),
    serveTokens: (options = {}) =>
      bench.serve(startTokenServer({ email: EMAIL, publicKey, tokens, ...options })),
    open: (url, request = {}, options = {}) => bench.openRequest({ kind: 'gcs', url, ...request }, options),
    keyFor: serviceAccountKey,
  };
}

/** Reads a source in every way. */
export async function readsAll({ source }: Opened, bytes = BYTES): Promise<void> {
  const facts = await source.probe();
  assert.equal(facts.ranges, true);
  assert.equal(facts.validators.length, bytes.length);
  assert.ok((await collect(source.stream(0))).equals(bytes));
  const target = Buffer.alloc(100);
  await source.readInto(20_000, target);
  assert.ok(target.equals(bytes.subarray(20_000, 20_100)));
}
