import type { DataVolumeManifest } from '../activities/types.js';

/** What a start needs to know of a manifest; the API server judges the rest. */
export interface ManifestFacts {
  readonly namespace: string;
  readonly name: string;
  /** Member of `spec.source`: `http`. */
  readonly source?: string;
  /** Without user info and query. */
  readonly displayUrl?: string;
}

/** The manifest cannot be started as it is; nothing has left this process. */
export class ManifestError extends Error {
  override name = 'ManifestError' as const;
}

/**
 * Reads identity and source of a manifest before it leaves this process.
 * @throws {@link ManifestError} for a manifest without a name, and for one that carries a credential: it would be readable in Temporal
 */
export function readManifest(manifest: DataVolumeManifest): ManifestFacts {
  const { name, namespace = 'default' } = manifest.metadata;
  if (!name) throw new ManifestError('metadata.name is missing: dvflow does not generate names');
  const [source] = Object.keys(recordOf(manifest.spec.source));
  const fields = recordOf(recordOf(manifest.spec.source)[source ?? '']);
  refuseHeaders(fields.extraHeaders);
  const displayUrl = typeof fields.url === 'string' ? display(fields.url) : clonedFrom(manifest);
  return { namespace, name, ...(source ? { source } : {}), ...(displayUrl ? { displayUrl } : {}) };
}

/** `namespace/name` of the claim, snapshot or DataSource that a clone is made of. */
function clonedFrom({ metadata, spec }: DataVolumeManifest): string | undefined {
  const source = recordOf(spec.source);
  const { namespace = metadata.namespace ?? 'default', name } = recordOf(
    spec.sourceRef ?? source.pvc ?? source.snapshot,
  );
  return typeof namespace === 'string' && typeof name === 'string' ? `${namespace}/${name}` : undefined;
}

function refuseHeaders(headers: unknown): void {
  for (const header of Array.isArray(headers) ? headers : []) {
    const [name = ''] = String(header).split(':');
    if (!/^(authorization|cookie|proxy-authorization)$/i.test(name.trim())) continue;
    throw new ManifestError(
      `extraHeaders carries ${name.trim()}, which anybody could read in Temporal: put the header into a Secret and name it in secretExtraHeaders`,
    );
  }
}

function display(url: string): string | undefined {
  const parsed = URL.parse(url);
  // Not a URL: the API server says so, in its own words.
  if (!parsed) return undefined;
  if (parsed.username !== '' || parsed.password !== '') {
    throw new ManifestError(
      `the URL of ${parsed.host} carries user info, which anybody could read in Temporal: put accessKeyId and secretKey into a Secret and name it in secretRef`,
    );
  }
  return `${parsed.origin === 'null' ? `${parsed.protocol}//${parsed.host}` : parsed.origin}${parsed.pathname}`;
}

function recordOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}
