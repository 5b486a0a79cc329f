/** Certificates as files, for a stack whose roles are processes (`local/`). */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { TLS_FILES, type TlsFiles } from '../../activities/data-port/tls.js';
import type { DataPortPeer } from '../../activities/types/data-port.js';
import type { Issued } from './certificates.js';
import { isCurrent, isFresh, trusted } from './judge.js';

/** Every peer that has a certificate. */
export const PEERS: readonly DataPortPeer[] = ['dvflow-node', 'dvflow-gateway'];

/** Directory of a peer's certificates below a directory of certificates. */
export function peerDirectory(directory: string, peer: DataPortPeer): string {
  return join(directory, peer);
}

/**
 * Makes authority and leaves where they are missing or near their end: `<directory>/authority` and `<directory>/<peer>`, each with
 * `ca.crt`, `tls.crt` and `tls.key`.
 */
export async function ensureCertificateDirectory(directory: string, now = Date.now()): Promise<void> {
  const own = join(directory, 'authority');
  const known = readPair(own);
  const authority = isFresh(known, now)
    ? (known as Issued)
    : await (await import('./certificates.js')).createAuthority(new Date(now));
  if (authority !== known) write(own, { ca: authority.cert, ...authority });
  for (const peer of PEERS) await ensureLeaf(peerDirectory(directory, peer), peer, { authority, now });
}

async function ensureLeaf(
  directory: string,
  peer: DataPortPeer,
  { authority, now }: { authority: Issued; now: number },
): Promise<void> {
  const known = readPair(directory);
  if (isCurrent(known, authority, now)) return;
  const { issueLeaf } = await import('./certificates.js');
  const leaf = await issueLeaf(authority, peer, new Date(now));
  write(directory, { ca: trusted(authority, known.ca, now), ...leaf });
}

function readPair(directory: string): Partial<TlsFiles> {
  const read = (name: string): string | undefined => {
    try {
      return readFileSync(join(directory, name), 'utf8');
    } catch {
      return undefined;
    }
  };
  const [ca, cert, key] = [read(TLS_FILES.ca), read(TLS_FILES.cert), read(TLS_FILES.key)];
  return { ...(ca ? { ca } : {}), ...(cert ? { cert } : {}), ...(key ? { key } : {}) };
}

function write(directory: string, { ca, cert, key }: TlsFiles): void {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const texts = { [TLS_FILES.ca]: ca, [TLS_FILES.cert]: cert, [TLS_FILES.key]: key };
  for (const [name, text] of Object.entries(texts)) {
    writeFileSync(join(directory, `${name}.new`), text, { mode: 0o600 });
    renameSync(join(directory, `${name}.new`), join(directory, name));
  }
}
