/** A gateway of its own for tests: the real server and routes; claims and the workflow are the test's, the data port is a stand-in. */
import { mkdtemp, rm } from 'node:fs/promises';
import { request, type RequestOptions } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { ApiException, type V1PersistentVolumeClaim, type V1Secret } from '@kubernetes/client-node';
import { createSigningKeys, type SigningKeys } from '../../workers/gateway/signing-keys.js';
import { createTokens, type Tokens } from '../../workers/gateway/tokens.js';
import { createUploadSlots } from '../../workers/gateway/upload-slots.js';
import type { UploadRequest } from '../../activities/types/upload.js';
import type { LocateUpload, OpenUpload } from '../../workers/gateway/open-upload.js';
import type { GatewayParts } from '../../workers/gateway/parts.js';
import { startServer, type GatewayServer } from '../../workers/gateway/server.js';
import { createAuthority, type TestAuthority } from '../support/servers/certificates.js';
import { startDataPort, type StandInDataPort } from '../support/servers/data-port.js';

const QUIET = { info: () => undefined, warn: () => undefined, error: () => undefined };

/** A Secret as the API server keeps it: a write of an old version is refused. */
export function secretStore() {
  let secret: V1Secret = { metadata: { name: 'keys', resourceVersion: '1' } };
  return {
    get secret() {
      return secret;
    },
    /** As another replica writes. */
    put(data: Readonly<Record<string, string>>): void {
      secret = { ...secret, data: { ...secret.data, ...data } };
    },
    core: {
      readNamespacedSecret: async () => structuredClone(secret),
      replaceNamespacedSecret: async ({ body }: { body: V1Secret }) => {
        if (body.metadata?.resourceVersion !== secret.metadata?.resourceVersion)
          throw new ApiException(409, 'Conflict', '{"reason":"Conflict"}', {});
        const resourceVersion = String(Number(secret.metadata?.resourceVersion) + 1);
        secret = structuredClone({ ...body, metadata: { ...body.metadata, resourceVersion } });
        return structuredClone(secret);
      },
    } as never,
  };
}

/** Keys over a store; several of them are several replicas. */
export function keysOver(
  store: ReturnType<typeof secretStore>,
  options: { readonly rotateAfterMs?: number; readonly now?: () => number } = {},
): SigningKeys {
  return createSigningKeys({ kubernetes: store, logger: QUIET, ...options });
}

/** A claim that takes an upload. */
export function uploadClaim(
  change: {
    readonly annotations?: Readonly<Record<string, string | undefined>>;
    readonly size?: string;
    readonly uid?: string;
  } = {},
): V1PersistentVolumeClaim {
  const annotations = {
    'cdi.kubevirt.io/storage.upload.target': '',
    'cdi.kubevirt.io/storage.pod.phase': 'Running',
    'cdi.kubevirt.io/storage.pod.ready': 'true',
    ...change.annotations,
  };
  return {
    metadata: {
      name: 'disk',
      namespace: 'team-a',
      uid: change.uid ?? 'claim-uid',
      annotations: defined(annotations),
    },
    spec: { resources: { requests: { storage: change.size ?? '64Mi' } } },
  };
}

function defined(record: Readonly<Record<string, string | undefined>>): Record<string, string> {
  const entries = Object.entries(record).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return Object.fromEntries(entries);
}

/** Whose tokens tests send. */
export const ALICE = {
  user: 'alice',
  uid: 'uid-of-alice',
  groups: ['team-a', 'system:authenticated'],
  extra: { scopes: ['upload'] },
} as const;

/** A gateway under test. */
export interface TestGateway {
  readonly server: GatewayServer;
  readonly tokens: Tokens;
  readonly keys: SigningKeys;
  readonly dataPort: StandInDataPort;
  readonly authority: TestAuthority;
  /** Claims by name. */
  readonly claims: Map<string, V1PersistentVolumeClaim>;
  /** What the workflow was asked. */
  readonly opened: UploadRequest[];
  /** What it was asked without anything being opened. */
  readonly located: UploadRequest[];
  /** Users who may not upload. */
  readonly denied: Set<string>;
  /** What SubjectAccessReviews asked. */
  readonly reviewed: object[];
  /** Runs instead of opening, where set. */
  onOpen?: OpenUpload | undefined;
  onLocate?: LocateUpload | undefined;
  /** A token for the claim `disk`. */
  token(): Promise<string>;
  /** A token for another claim, which is made. */
  claimToken(name: string): Promise<string>;
  send(options: Sent): Promise<Received>;
  close(): Promise<void>;
}

/** One request. */
export interface Sent extends RequestOptions {
  readonly path: string;
  readonly token?: string;
  readonly body?: Readable | Buffer | string;
  /** The connection may be used again. */
  readonly keep?: boolean;
}

/** One answer. */
export interface Received {
  readonly status: number;
  readonly text: string;
  readonly headers: NodeJS.Dict<string | string[]>;
}

/** Starts it on a port that nobody uses. */
export async function startTestGateway(
  options: {
    readonly slots?: number;
    readonly parts?: Partial<GatewayParts>;
    /** Another gateway of the same cluster: keys, claims and data port are the same. */
    readonly beside?: TestGateway;
    readonly port?: number;
  } = {},
): Promise<TestGateway> {
  const { beside } = options;
  const directory = await mkdtemp(join(tmpdir(), 'dvflow-gateway-'));
  const authority = beside?.authority ?? (await createAuthority());
  const dataPort = beside?.dataPort ?? (await startDataPort(authority, directory));
  const client = await authority.issue(['dvflow-gateway']);
  const keys = beside?.keys ?? keysOver(secretStore());
  const tokens = beside?.tokens ?? createTokens(keys);
  const claims = beside?.claims ?? new Map([['disk', uploadClaim()]]);
  const opened: UploadRequest[] = [];
  const located: UploadRequest[] = [];
  const denied = new Set<string>();
  const reviewed: object[] = [];
  const gateway: Partial<TestGateway> = {};
  const parts: GatewayParts = {
    kubernetes: { core: claimReader(claims), authorization: reviewer(denied, reviewed) } as never,
    tokens,
    slots: createUploadSlots(options.slots ?? 4),
    logger: QUIET,
    dataPortTls: () => ({ ca: authority.ca, ...client }),
    frontProxy: () => undefined,
    finishedSession: async () => [...dataPort.sessions].find(([, { complete }]) => complete)?.[0],
    openUpload: async (claim, asked, signal) => {
      opened.push(asked);
      if (gateway.onOpen) return await gateway.onOpen(claim, asked, signal);
      const { durable, complete } = dataPort.open(asked.session, asked.length);
      return { url: dataPort.url, session: asked.session, offset: durable, complete };
    },
    locateUpload: async (claim, asked, signal) => {
      located.push(asked);
      if (gateway.onLocate) return await gateway.onLocate(claim, asked, signal);
      const { durable = 0, complete } = dataPort.sessions.get(asked.session) ?? {};
      return { session: asked.session, offset: durable, ...(complete ? { complete } : {}) };
    },
    ...options.parts,
  };
  const tls = { ...(await authority.issue(['localhost'])), ca: authority.ca };
  const server = await startServer(parts, { address: { host: '127.0.0.1', port: options.port ?? 0 }, tls });
  return Object.assign(gateway, {
    server,
    tokens,
    keys,
    dataPort,
    authority,
    claims,
    opened,
    located,
    denied,
    reviewed,
    token: async () =>
      await tokens.issue({
        namespace: 'team-a',
        name: 'disk',
        claimUid: claims.get('disk')?.metadata?.uid ?? '',
        holder: ALICE,
      }),
    async claimToken(name: string) {
      const claimUid = `uid-of-${name}`;
      claims.set(name, uploadClaim({ uid: claimUid }));
      return await tokens.issue({ namespace: 'team-a', name, claimUid, holder: ALICE });
    },
    send: async (sent: Sent) => await send(server.port, authority.ca, sent),
    async close() {
      await server.close();
      if (!beside) await dataPort.close();
      await rm(directory, { recursive: true, force: true });
    },
  });
}

/** A gateway for each test, and a token for its claim. Called in the body of `describe`. */
export function useTestGateway(take: (given: { gateway: TestGateway; token: string }) => void): void {
  let gateway: TestGateway;
  beforeEach(async () => {
    gateway = await startTestGateway();
    take({ gateway, token: await gateway.token() });
  });
  afterEach(async () => {
    await gateway.close();
  });
}

function claimReader(claims: ReadonlyMap<string, V1PersistentVolumeClaim>) {
  return {
    readNamespacedPersistentVolumeClaim: async ({ name }: { name: string }) => {
      const claim = claims.get(name);
      if (!claim) throw new ApiException(404, 'Not Found', '{"reason":"NotFound"}', {});
      return claim;
    },
  };
}

function reviewer(denied: ReadonlySet<string>, reviewed: object[]) {
  return {
    createSubjectAccessReview: async ({ body }: { body: { spec: { user: string } } }) => {
      reviewed.push(body.spec);
      return { status: { allowed: !denied.has(body.spec.user) } };
    },
  };
}

/** Sends a request as a client that reads the answer while it still sends. */
export async function send(
  port: number,
  ca: string,
  { token, body, keep, ...options }: Sent,
): Promise<Received> {
  const authorization = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const headers = { ...authorization, ...(options.headers as Record<string, string>) };
  return await new Promise((resolve, reject) => {
    const asked = request(
      { host: 'localhost', port, ca, method: 'POST', agent: false, ...options, headers },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString();
          resolve({ status: response.statusCode ?? 0, text, headers: response.headers });
          if (!keep) asked.destroy();
        });
      },
    );
    asked.on('error', reject);
    if (body === undefined || typeof body === 'string' || Buffer.isBuffer(body)) return void asked.end(body);
    asked.flushHeaders();
    body.on('error', (error) => asked.destroy(error));
    body.pipe(asked);
  });
}
