/** Certificates of data ports in Secrets, made and renewed by the control role; pods mount them. */
import { setTimeout as pause } from 'node:timers/promises';
import type { V1Secret } from '@kubernetes/client-node';
import type { Logger } from '@temporalio/common';
import { TLS_FILES, type TlsFiles } from '../../activities/data-port/tls.js';
import { callForOutcome, type Kubernetes } from '../../activities/kubernetes/client.js';
import { OWN_NAMESPACE } from '../../activities/kubernetes/names.js';
import type { DataPortPeer } from '../../activities/types/data-port.js';
import type { Issued } from './certificates.js';
import { isCurrent, isFresh, trusted } from './judge.js';

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

/**
 * Fills the Secrets whose certificate is missing, broken, near its end or of another authority; the names of those it wrote.
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
  for (const [peer, where] of Object.entries(leaves)) {
    const leaf = await ensure(kubernetes, where, async (known) =>
      isCurrent(known, authority.files, now)
        ? undefined
        : await newLeaf(peer as DataPortPeer, { authority: authority.files, before: known.ca, now }),
    );
    if (leaf.written) made.push(where.name);
  }
  return made;
}

async function newLeaf(
  peer: DataPortPeer,
  { authority, before, now }: { authority: Issued; before: string | undefined; now: number },
): Promise<TlsFiles> {
  const leaf = await (await import('./certificates.js')).issueLeaf(authority, peer, new Date(now));
  return { ca: trusted(authority, before, now), ...leaf };
}

/** Reads a Secret and writes what `renew` makes of it; where another replica was faster, looks at what that one wrote. */
async function ensure(
  { core }: Kubernetes,
  { namespace, name }: { readonly namespace: string; readonly name: string },
  renew: (known: Partial<TlsFiles>) => Promise<TlsFiles | undefined>,
): Promise<{ files: TlsFiles; written: boolean }> {
  for (let attempt = 1; attempt <= 5; attempt += 1) {
    const secret = await callForOutcome(
      `reading Secret ${namespace}/${name}`,
      core.readNamespacedSecret({ namespace, name }),
    );
    if (secret === 'gone' || secret === 'conflict')
      throw new Error(`Secret ${namespace}/${name} does not exist: apply deploy/workers again`);
    const known = filesOf(secret);
    const files = await renew(known);
    if (!files) return { files: known as TlsFiles, written: false };
    const written = await callForOutcome(
      `writing Secret ${namespace}/${name}`,
      core.replaceNamespacedSecret({ namespace, name, body: { ...secret, data: dataOf(files) } }),
    );
    if (typeof written !== 'string') return { files, written: true };
  }
  throw new Error(`Secret ${namespace}/${name} changes all the time`);
}

function filesOf({ data = {} }: V1Secret): Partial<TlsFiles> {
  const entries = Object.entries(TLS_FILES).flatMap(([field, key]) =>
    data[key] ? [[field, Buffer.from(data[key], 'base64').toString()] as const] : [],
  );
  return Object.fromEntries(entries);
}

function dataOf(files: TlsFiles): Record<string, string> {
  const fields = Object.entries(TLS_FILES) as [keyof TlsFiles, string][];
  return Object.fromEntries(
    fields.map(([field, key]) => [key, Buffer.from(files[field]).toString('base64')]),
  );
}
