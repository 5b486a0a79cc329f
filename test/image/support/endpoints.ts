import { createReadStream, readFileSync, statSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { basename, dirname } from 'node:path';
import { createHash } from 'node:crypto';
import { openSource } from '../../../activities/image/source/open-source.js';
import { createStreamedSource } from '../../../activities/image/source/streamed-source.js';
import type { ImageSource, SourceRequest } from '../../../activities/image/source/types.js';
import { createAuthority, startFileServer, type RunningServer } from '../../support/servers/index.js';
import { startGoServer, type GoServer } from '../../support/servers/go-servers.js';
import { startRegistryServer, type RegistryServer } from '../../support/servers/registry-server.js';
import { putObject, startS3Server } from '../../support/servers/s3-server.js';
import { imageOf, layerOf, writeLayout } from '../registry/images.js';

/** Puts a file where sources of one kind are, and opens it from there as often as it is asked to. */
export interface Endpoint {
  readonly kind: SourceRequest['kind'] | 'upload';
  offer(path: string): Promise<Offer>;
}

/** Opens what is offered. */
export interface Offer {
  (): Promise<ImageSource>;
  /** How a worker is told of it; absent for an upload, which nobody fetches. */
  readonly request?: SourceRequest;
}

/** The endpoints of the support matrix, by their names there, on servers that are started when they are needed. */
export interface Endpoints extends AsyncDisposable {
  readonly byName: Readonly<Record<string, Endpoint>>;
}

const LOGIN = { username: 'me', password: 'pass-word' };
const KEYS = { accessKeyId: 'AKIDEXAMPLE', secretKey: 'pass-word/+secret' };

/** Opens a request as a worker does that may connect to loopback. */
function offered(request: SourceRequest): Offer {
  const { signal } = new AbortController();
  const open = (): Promise<ImageSource> =>
    openSource(request, { policy: { allowed: ['127.0.0.0/8'], denied: [] }, signal });
  return Object.assign(open, { request });
}

const http = (url: string, more: { ca?: string; username?: string; password?: string } = {}) =>
  offered({ kind: 'http', url, headers: [], secretHeaders: [], insecureSkipVerify: false, ...more });

/** Makes the endpoints; nothing is started before a file is offered. */
export function createEndpoints(): Endpoints {
  const servers: RunningServer[] = [];
  let store: Promise<GoServer> | undefined;
  let registry: Promise<RegistryServer> | undefined;
  async function running<S extends RunningServer>(starting: Promise<S>): Promise<S> {
    const server = await starting;
    servers.push(server);
    return server;
  }
  return {
    byName: {
      http: {
        kind: 'http',
        async offer(path) {
          const server = await running(startFileServer({ path }));
          return http(server.url);
        },
      },
      https: {
        kind: 'http',
        async offer(path) {
          const authority = await createAuthority();
          const server = await running(startFileServer({ path, tls: await authority.issue(['localhost']) }));
          return http(server.url, { ca: authority.ca });
        },
      },
      http_basic_auth: {
        kind: 'http',
        async offer(path) {
          const server = await running(startFileServer({ path, basicAuth: LOGIN }));
          return http(server.url, LOGIN);
        },
      },
      s3: {
        kind: 's3',
        async offer(path) {
          const behind = await (store ??= startGoServer('s3'));
          await putObject(behind, `/images/${basename(path)}`, readFileSync(path));
          const keys = { [KEYS.accessKeyId]: KEYS.secretKey };
          const server = await running(startS3Server({ store: behind, keys }));
          return offered({ kind: 's3', url: `${server.url}/images/${basename(path)}`, ...KEYS });
        },
      },
      registry: {
        kind: 'registry',
        async offer(path) {
          const { host } = await (registry ??= startRegistryServer());
          const name = await pushDisk(path, host);
          return offered({ kind: 'registry', url: `docker://${host}/${name}`, insecure: true });
        },
      },
      upload: { kind: 'upload', offer: async (path) => async () => uploadOf(path) },
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(servers.map((server) => server.close()));
      await (await store)?.end();
      await (await registry)?.end();
    },
  };
}

/** A container disk with this file, and `env` as its variables, pushed as everybody pushes it; repository and tag. */
export async function pushDisk(path: string, host: string, env: readonly string[] = []): Promise<string> {
  const layer = await layerOf([
    { name: 'disk/', type: 'directory' },
    { name: `disk/${basename(path)}`, content: readFileSync(path) },
  ]);
  const name = `team/${createHash('sha256').update(path).digest('hex').slice(0, 12)}:v1`;
  const layout = `${dirname(path)}/layout-${basename(path)}`;
  writeLayout(layout, imageOf([layer], { env }), 'v1');
  const to = ['--dest-tls-verify=false', `oci:${layout}:v1`, `docker://${host}/${name}`];
  execFileSync('skopeo', ['--insecure-policy', 'copy', '-q', ...to]);
  return name;
}

/** The body of an upload: it comes once. */
function uploadOf(path: string): ImageSource {
  const body = createReadStream(path, { highWaterMark: 65_536 });
  let begun = false;
  let bytesRead = 0;
  async function* bytes(): AsyncGenerator<Buffer> {
    if (begun) throw new Error('the body of an upload cannot be read again');
    begun = true;
    for await (const chunk of body) {
      bytesRead += (chunk as Buffer).length;
      yield chunk as Buffer;
    }
  }
  return createStreamedSource({
    open: bytes,
    facts: async () => ({ displayUrl: 'upload', validators: { length: statSync(path).size } }),
    bytesRead: () => bytesRead,
    close: () => body.destroy(),
  });
}
