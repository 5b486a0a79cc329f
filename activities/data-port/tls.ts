/** Certificates of the data ports, as a mounted Secret holds them (`workers/pki/`). */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ConnectionOptions } from 'node:tls';

/** DNS name in the certificate of every node's data port; peers are reached by address and known by this name. */
export const DATA_PORT_NAME = 'dvflow-node';

/** PEM texts of one directory: `ca.crt` (every authority that is trusted), `tls.crt`, `tls.key`. */
export interface TlsFiles {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/** Names of the files in a directory of certificates, and of the keys in their Secret. */
export const TLS_FILES = { ca: 'ca.crt', cert: 'tls.crt', key: 'tls.key' } as const;

/** Reads the certificates of a directory. @throws Error of `node:fs` where one is missing */
export function readTlsFiles(directory: string): TlsFiles {
  const read = (name: string): string => readFileSync(join(directory, name), 'utf8');
  return { ca: read(TLS_FILES.ca), cert: read(TLS_FILES.cert), key: read(TLS_FILES.key) };
}

/** Options with which `https.request` or `tls.connect` reaches a data port: read for each connection, since certificates are renewed. */
export function dataPortClientOptions(
  directory: string,
): TlsFiles & Required<Pick<ConnectionOptions, 'servername' | 'minVersion'>> {
  // the server's address is not in its certificate, its name is
  return { ...readTlsFiles(directory), servername: DATA_PORT_NAME, minVersion: 'TLSv1.3' };
}
