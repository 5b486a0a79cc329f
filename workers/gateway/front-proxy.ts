/**
 * Who asks the aggregated API: kube-apiserver has authenticated the user, proves itself by the front proxy's client certificate,
 * and names the user in headers (https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/).
 */
import type { TLSSocket } from 'node:tls';
import { call, type Kubernetes } from '../../activities/kubernetes/client.js';
import type { TokenHolder } from './tokens.js';

/** ConfigMap in which kube-apiserver tells how it proves itself. */
const CONFIG_MAP = { namespace: 'kube-system', name: 'extension-apiserver-authentication' } as const;

/** How the front proxy proves itself and names users. */
export interface FrontProxy {
  /** Authorities of its client certificate, in PEM. */
  readonly ca: string;
  /** Common names that it may have; none: any. */
  readonly allowedNames: readonly string[];
  /** Lower case, as Node shows headers. */
  readonly usernameHeaders: readonly string[];
  /** None: kube-apiserver names no uid, and would pass on one that a user has made up. */
  readonly uidHeaders: readonly string[];
  readonly groupHeaders: readonly string[];
  readonly extraPrefixes: readonly string[];
}

/** A user as the API server names him; what a SubjectAccessReview is asked about. */
export type FrontProxyUser = TokenHolder;

/** Reads how the front proxy proves itself. @throws {@link FailureType} `KubernetesUnavailable`, also where the API server has no front proxy */
export async function readFrontProxy({ core }: Pick<Kubernetes, 'core'>): Promise<FrontProxy> {
  const { data = {} } = await call(
    `reading ConfigMap ${CONFIG_MAP.namespace}/${CONFIG_MAP.name}`,
    core.readNamespacedConfigMap(CONFIG_MAP),
  );
  const names = (key: string): readonly string[] => parseNames(data[`requestheader-${key}`]);
  const lower = (key: string): readonly string[] => names(key).map((name) => name.toLowerCase());
  return {
    ca: data['requestheader-client-ca-file'] ?? '',
    allowedNames: names('allowed-names'),
    usernameHeaders: lower('username-headers'),
    uidHeaders: lower('uid-headers'),
    groupHeaders: lower('group-headers'),
    extraPrefixes: lower('extra-headers-prefix'),
  };
}

/** Lists are kept as JSON. */
function parseNames(text: string | undefined): readonly string[] {
  try {
    const parsed: unknown = JSON.parse(text ?? '[]');
    return Array.isArray(parsed) ? parsed.filter((name) => typeof name === 'string') : [];
  } catch {
    return [];
  }
}

/**
 * The user on whose behalf the front proxy asks; undefined where whoever asks has not proved to be the front proxy, or names no
 * user. Without an authority nobody is believed; connections that another authority has judged are cut when it changes (`server.ts`).
 * `headers` are
 * `headersDistinct`: names of groups may hold commas, with which Node joins the others.
 */
export function frontProxyUser(
  proxy: FrontProxy | undefined,
  socket: Pick<TLSSocket, 'authorized' | 'getPeerCertificate'>,
  headers: NodeJS.Dict<string[]>,
): FrontProxyUser | undefined {
  if (!proxy?.ca || !socket.authorized) return undefined;
  const { CN } = socket.getPeerCertificate().subject ?? {};
  const commonName = Array.isArray(CN) ? CN[0] : CN;
  if (proxy.allowedNames.length > 0 && !proxy.allowedNames.includes(commonName ?? '')) return undefined;
  const user = proxy.usernameHeaders.flatMap((name) => headers[name] ?? []).find(Boolean);
  if (user === undefined) return undefined;
  const uid = proxy.uidHeaders.flatMap((name) => headers[name] ?? []).find(Boolean);
  return {
    user,
    ...(uid === undefined ? {} : { uid }),
    groups: proxy.groupHeaders.flatMap((name) => headers[name] ?? []),
    extra: extraOf(proxy.extraPrefixes, headers),
  };
}

function extraOf(prefixes: readonly string[], headers: NodeJS.Dict<string[]>): Record<string, string[]> {
  const found = new Map<string, string[]>();
  for (const [header, value] of Object.entries(headers)) {
    const prefix = prefixes.find((known) => header.startsWith(known) && header.length > known.length);
    if (prefix !== undefined) found.set(unescape(header.slice(prefix.length)), value ?? []);
  }
  return Object.fromEntries(found);
}

/** Keys are percent-encoded, since a header's name cannot hold every character. */
function unescape(key: string): string {
  try {
    return decodeURIComponent(key);
  } catch {
    return key;
  }
}
