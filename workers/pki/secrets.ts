/** Certificates of data ports in Secrets, made and renewed by the control role; pods mount them. */
import { setTimeout as pause } from 'node:timers/promises';
import type { V1Secret } from '@kubernetes/client-node';
import type { Logger } from '@temporalio/common';
import { TLS_FILES, type TlsFiles } from '../../activities/data-port/tls.js';
import { callForOutcome, type Kubernetes } from '../../activities/kubernetes/client.js';
import { OWN_NAMESPACE } from '../../activities/kubernetes/names.js';
import type { DataPortPeer } from '../../activities/types/data-port.js';
import type { Issued } from './certificates.js';
import { isCurrent, isFresh, issuerBefore, trusted, trusts } from './judge.js';

/** Namespace of the node workers, as `deploy/rbac/namespaces.yaml` makes it. */
const NODE_NAMESPACE = 'dvflow-nodes';

/** Where each certificate lies; `deploy/workers/certificates.yaml` makes these Secrets, empty. */
export const CERTIFICATE_SECRETS: Readonly<
  Record<'authority' | DataPortPeer, { readonly namespace: string; readonly name: string }>
> = {
  authority: { namespace: OWN_NAMESPACE, name: 'dvflow-authority' },
  'dvflow-gateway': { namespace: OWN_NAMESPACE, name: 'dvflow-gateway-certificate' },
  'dvflow-node': { namespace: NODE_NAMESPACE, name: 'dvflow-node-certificate' },
};

/** Since when the peer of a Secret is told to trust the authority that its leaf is not of yet. */
const TRUSTED_SINCE = 'dvflow.io/authority-trusted-since';

/**
 * Until all peers trust a new authority, in ms: a kubelet brings a Secret to its mounts within two minutes or so, each at its own time,
 * and the registration of the upload API is looked at every minute.
 */
export const SETTLE_MS = 600_000;

/** A renewal is due at the earliest after two months: a look every hour finds it, and a Secret that somebody emptied. */
const LOOK_MS = 3_600_000;
const RETRY_MS = { first: 2_000, longest: 300_000 } as const;

/** Keeps the certificates until stopped; every replica does, and the first write wins. */
export function keepCertificates({
  kubernetes,
  logger,
}: {
  readonly kubernetes: Kubernetes;
  readonly logger: Pick<Logger, 'info' | 'warn'>;
}): { stop(): Promise<void> } {
  const stopping = new AbortController();
  async function run(): Promise<void> {
    for (let wait = RETRY_MS.first as number; !stopping.signal.aborted;) {
      try {
        const made = await ensureCertificateSecrets(kubernetes);
        if (made.length > 0) logger.info('certificates of data ports were made', { made });
        wait = RETRY_MS.first;
        await pause(LOOK_MS, undefined, { signal: stopping.signal }).catch(() => undefined);
      } catch (error) {
        logger.warn('certificates of data ports could not be kept', { error, retryInMs: wait });
        await pause(wait, undefined, { signal: stopping.signal }).catch(() => undefined);
        wait = Math.min(wait * 2, RETRY_MS.longest);
      }
    }
  }
  const running = run();
  return {
    async stop() {
      stopping.abort();
      await running;
    },
  };
}

/** What a Secret holds. */
interface Stored extends TlsFiles {
  /** {@link TRUSTED_SINCE}, in ms since the epoch. */
  readonly trustedSince?: number;
}

/**
 * Fills the Secrets whose certificate is missing, broken, near its end or of another authority; the names of those it wrote. Where leaves
 * of another authority still serve, every peer trusts the new one for {@link SETTLE_MS} before the first proves itself by it: that is for
 * a later call.
 * @throws {@link FailureType} retried: `KubernetesUnavailable`; Error naming a Secret that does not exist
 */
export async function ensureCertificateSecrets(
  kubernetes: Kubernetes,
  now = Date.now(),
): Promise<readonly string[]> {
  const made: string[] = [];
  const { authority: place, ...leaves } = CERTIFICATE_SECRETS;
  const authority = await ensure(kubernetes, place, async (known) => {
    if (isFresh(known, now)) return undefined;
    const fresh = await (await import('./certificates.js')).createAuthority(new Date(now));
    return { ca: fresh.cert, ...fresh };
  });
  if (authority.written) made.push(place.name);
  // whole, since it is fresh
  const context: Context = { authority: authority.files as Stored, now };
  let settled = true;
  for (const where of Object.values(leaves)) {
    const { files, written } = await ensure(kubernetes, where, async (known) => withTrust(known, context));
    if (written) made.push(where.name);
    if (isOfBefore(files, context)) settled &&= (files.trustedSince ?? now) + SETTLE_MS <= now;
  }
  for (const [peer, where] of Object.entries(leaves)) {
    const leaf = await ensure(kubernetes, where, async (known) =>
      isCurrent(known, context.authority, now) || (!settled && isOfBefore(known, context))
        ? undefined
        : await newLeaf(peer as DataPortPeer, { ...context, before: known.ca }),
    );
    if (leaf.written) made.push(where.name);
  }
  return made;
}

/** The authority by which leaves are issued, and the time. */
interface Context {
  readonly authority: Issued;
  readonly now: number;
}

function isOfBefore(known: Partial<Stored>, { authority, now }: Context): boolean {
  return issuerBefore(known, authority, now) !== undefined;
}

/** A leaf of an authority of before, which trusts the new one from now on; `undefined` where there is nothing to say. */
function withTrust(known: Partial<Stored>, { authority, now }: Context): Stored | undefined {
  const issuer = issuerBefore(known, authority, now);
  if (issuer === undefined) return undefined;
  if (trusts(known, authority) && known.trustedSince !== undefined) return undefined;
  // its own goes first: of those of before one is kept
  return { ...(known as TlsFiles), ca: trusted(authority, issuer, now), trustedSince: now };
}

async function newLeaf(
  peer: DataPortPeer,
  { authority, before, now }: Context & { readonly before: string | undefined },
): Promise<TlsFiles> {
  const leaf = await (await import('./certificates.js')).issueLeaf(authority, peer, new Date(now));
  return { ca: trusted(authority, before, now), ...leaf };
}

/** Reads a Secret and writes what `renew` makes of it; where another replica was faster, looks at what that one wrote. */
async function ensure(
  { core }: Kubernetes,
  { namespace, name }: { readonly namespace: string; readonly name: string },
  renew: (known: Partial<Stored>) => Promise<Stored | undefined>,
): Promise<{ files: Partial<Stored>; written: boolean }> {
  for (let attempt = 1; attempt <= 5; attempt += 1) {
    const secret = await callForOutcome(
      `reading Secret ${namespace}/${name}`,
      core.readNamespacedSecret({ namespace, name }),
    );
    if (secret === 'gone' || secret === 'conflict')
      throw new Error(`Secret ${namespace}/${name} does not exist: apply deploy/workers again`);
    const known = storedIn(secret);
    const files = await renew(known);
    if (!files) return { files: known, written: false };
    const written = await callForOutcome(
      `writing Secret ${namespace}/${name}`,
      core.replaceNamespacedSecret({ namespace, name, body: { ...secret, ...contentsOf(files, secret) } }),
    );
    if (typeof written !== 'string') return { files, written: true };
  }
  throw new Error(`Secret ${namespace}/${name} changes all the time`);
}

function storedIn({ data = {}, metadata }: V1Secret): Partial<Stored> {
  const entries = Object.entries(TLS_FILES).flatMap(([field, key]) =>
    data[key] ? [[field, Buffer.from(data[key], 'base64').toString()] as const] : [],
  );
  const trustedSince = Date.parse(metadata?.annotations?.[TRUSTED_SINCE] ?? '');
  return { ...Object.fromEntries(entries), ...(Number.isNaN(trustedSince) ? {} : { trustedSince }) };
}

function contentsOf(stored: Stored, { metadata }: V1Secret): Pick<V1Secret, 'data' | 'metadata'> {
  const fields = Object.entries(TLS_FILES) as [keyof TlsFiles, string][];
  const data = fields.map(([field, key]) => [key, Buffer.from(stored[field]).toString('base64')] as const);
  const { [TRUSTED_SINCE]: _, ...others } = metadata?.annotations ?? {};
  const { trustedSince } = stored;
  const since = trustedSince === undefined ? {} : { [TRUSTED_SINCE]: new Date(trustedSince).toISOString() };
  return { data: Object.fromEntries(data), metadata: { ...metadata, annotations: { ...others, ...since } } };
}
