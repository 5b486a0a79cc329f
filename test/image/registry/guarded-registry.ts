import type { IncomingMessage, ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';
import { createAuthority, PAGE, startServer } from '../../support/servers/index.js';
import type { RunningServer } from '../../support/servers/index.js';
import { imageOf, layerOf, type Layer } from './images.js';
import { startNodeRegistry, type RegistryBehaviour } from './node-registry.js';
import { DISK, useBench, type Bench } from './open.js';

/** A user of a registry, and how Basic authentication writes it. */
export const LOGIN = { username: 'me', password: 'pass-word' };
export const BASIC = `Basic ${Buffer.from('me:pass-word').toString('base64')}`;

/** A server of tokens: `sesame-0`, `sesame-1`, … */
export interface Issuer {
  readonly server: RunningServer;
  /** Tokens handed out, in their order. */
  readonly tokens: string[];
}

/** A server that gives tokens for the identity token of a login, and to nobody else. */
export interface Exchange extends Issuer {
  /** What it was sent, in its order. */
  readonly forms: Readonly<Record<string, string>>[];
}

/** The identity token of a login. */
export const IDENTITY = 'pass-token';

/** A `.dockerconfigjson` as `az acr login` leaves it: beside the token a user name that stands for nobody. */
export function identityConfig({ port }: Pick<RunningServer, 'port'>): string {
  const auth = Buffer.from('00000000-0000-0000-0000-000000000000:').toString('base64');
  return JSON.stringify({ auths: { [`127.0.0.1:${port}`]: { auth, identitytoken: IDENTITY } } });
}

/** Registries and token servers for one suite. */
export interface Guarded {
  readonly bench: Bench;
  /** The one layer of the image `team/disk:v1`, made before the first test. */
  readonly layer: () => Layer;
  readonly registry: (behaviour: RegistryBehaviour) => Promise<RunningServer>;
  /** One that takes the first token of `from`, and redirects manifests to `elsewhere`. */
  readonly redirecting: (from: Issuer, elsewhere: RunningServer) => Promise<RunningServer>;
  /** One over TLS, at a name, that sends everybody to a token server without it. */
  readonly secured: (from: Issuer) => Promise<Secured>;
  /** `allowed` says who gets a token. */
  readonly issuer: (
    allowed?: (request: IncomingMessage) => boolean,
    answer?: (token: string) => unknown,
  ) => Promise<Issuer>;
  /** `status` by the number of the request, where it is not 200. */
  readonly exchange: (status?: (index: number) => number, lifeSeconds?: number) => Promise<Exchange>;
}

/** A registry over TLS, and how it is reached. */
export interface Secured {
  readonly server: RunningServer;
  readonly url: string;
  /** Members of the request. */
  readonly trusted: { readonly ca: string; readonly insecure: false };
  readonly policy: { readonly allowed: string[]; readonly denied: string[] };
}

/** Call inside `describe`. */
export function useGuarded(): Guarded {
  const bench = useBench();
  let layer: Layer | undefined;
  const get = (): Layer => {
    if (!layer) throw new Error('the layer is used outside of tests');
    return layer;
  };
  before(async () => {
    layer = await layerOf([{ name: 'disk/a', content: DISK }], 'none');
  });
  const registry = async (behaviour: RegistryBehaviour): Promise<RunningServer> =>
    await bench.serve(startNodeRegistry({ 'team/disk:v1': imageOf([get()]) }, behaviour));
  return {
    bench,
    layer: get,
    registry,
    redirecting: async (from, elsewhere) =>
      await registry({
        before: ({ headers, url }, response) => {
          if (headers.authorization !== 'Bearer sesame-0') return challenged(response, bearer(from));
          if (!url?.includes('/manifests/')) return false;
          response.writeHead(307, { location: `${elsewhere.url}${url}` }).end();
          return true;
        },
      }),
    async secured(from) {
      const authority = await createAuthority();
      const tls = await authority.issue(['localhost']);
      const server = await bench.serve(
        startNodeRegistry({}, { before: (_, response) => challenged(response, bearer(from)) }, { tls }),
      );
      return {
        server,
        url: `docker://localhost:${server.port}/team/disk:v1`,
        trusted: { ca: authority.ca, insecure: false },
        policy: { allowed: ['127.0.0.0/8', '::1/128'], denied: [] },
      };
    },
    async issuer(allowed = () => true, answer = (token) => ({ token, expires_in: 300 })) {
      const tokens: string[] = [];
      const server = await bench.serve(
        startServer((request, response) => {
          if (!allowed(request)) return void response.writeHead(401).end(PAGE);
          const token = `sesame-${tokens.length}`;
          tokens.push(token);
          response.end(JSON.stringify(answer(token)));
        }),
      );
      return { server, tokens };
    },
    async exchange(status = () => 200, lifeSeconds = 300) {
      const tokens: string[] = [];
      const forms: Record<string, string>[] = [];
      const server = await bench.serve(
        startServer(async (request, response, _, index) => {
          const form = Object.fromEntries(new URLSearchParams(await text(request)));
          forms.push(form);
          const known = request.method === 'POST' && form['refresh_token'] === IDENTITY;
          const now = known ? status(index) : 401;
          if (now !== 200) return void response.writeHead(now).end(PAGE);
          const token = `sesame-${tokens.length}`;
          tokens.push(token);
          response.end(JSON.stringify({ access_token: token, expires_in: lifeSeconds }));
        }),
      );
      return { server, tokens, forms };
    },
  };
}

/** Answers 401 with this challenge. */
export function challenged(response: ServerResponse, value: string | string[]): true {
  response.writeHead(401, { 'www-authenticate': value }).end(PAGE);
  return true;
}

/** The challenge that sends to a token server. */
export const bearer = (from: Issuer): string =>
  `Bearer realm="${from.server.url}/token?sort=pull",service="a registry",scope="ignored"`;
