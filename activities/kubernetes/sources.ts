/** Which source a DataVolume has, and which lifecycle serves it. */
import { permanentFailure } from '../failures.js';
import { assertContentType } from '../image/content-type.js';
import { namesArchive } from '../image/registry/reference.js';
import type { SourceKind } from '../types.js';
import type { DataVolume, RegistrySource } from './objects.js';

const SOURCE_KINDS: readonly SourceKind[] = [
  'http',
  's3',
  'gcs',
  'registry',
  'upload',
  'pvc',
  'snapshot',
  'blank',
  'imageio',
  'vddk',
];

/** Sources that images are imported from. */
const IMPORTED = ['http', 's3', 'gcs', 'registry'] as const satisfies readonly SourceKind[];

/** Sources of each lifecycle, by its workflow type. */
const SERVED: Readonly<Record<string, readonly SourceKind[]>> = {
  importDataVolume: IMPORTED,
  blankDataVolume: ['blank'],
  cloneDataVolume: ['pvc', 'snapshot', 'sourceRef'],
  uploadDataVolume: ['upload'],
};

const INSTEAD = 'use spec.source.http, s3, gcs or registry';

type Spec = DataVolume['spec'];

/** The member of `spec.source` that a DataVolume uses; the API server has judged that there is exactly one. */
export function sourceKind(spec: Spec): SourceKind {
  if (spec.sourceRef) return 'sourceRef';
  const source = spec.source ?? {};
  return SOURCE_KINDS.find((kind) => source[kind] !== undefined && source[kind] !== null) ?? 'external';
}

/** Address of what is imported, as the user wrote it; `undefined` for sources without one. */
export function sourceUrl(spec: Spec): string | undefined {
  const source = spec.source ?? {};
  return IMPORTED.map((kind) => source[kind]?.url).find((url) => url !== undefined);
}

/**
 * Refuses what the lifecycle of this workflow type does not serve. A manifest without any source passes: it is the API server's to
 * refuse.
 * @throws {@link FailureType} `UnsupportedSource`; `ContentTypeNotSupported` for an archive from elsewhere than a web server
 */
export function refuseUnsupportedSource(spec: Spec, workflowType = 'importDataVolume'): void {
  const kind = sourceKind(spec);
  if (kind === 'external' && !isPopulatedFromOutside(spec)) return;
  if (!(SERVED[workflowType] ?? IMPORTED).includes(kind)) throw servedElsewhere(kind, workflowType);
  if (spec.source?.registry) refuseWaysToPull(spec.source.registry);
  if (kind !== 'external' && workflowType !== 'cloneDataVolume') assertContentType(kind, spec.contentType);
}

function servedElsewhere(kind: SourceKind, workflowType: string): Error {
  const [other] = Object.entries(SERVED).find(([, kinds]) => kinds.includes(kind)) ?? [];
  return unsupported(
    other === undefined
      ? `${nameOf(kind)} cannot be imported by this release: ${INSTEAD}`
      : `${nameOf(kind)} is served by workflow ${other}, and this is ${workflowType}: start that one with the same manifest`,
  );
}

/** What CDI has pods of the cluster do, which this release does not start, and what is no registry at all. */
function refuseWaysToPull({ url, imageStream, pullMethod }: RegistrySource): void {
  const field = 'spec.source.registry';
  if (imageStream !== undefined)
    throw unsupported(
      `${field}.imageStream cannot be imported: only OpenShift resolves it, when it starts a pod of the image, and this release starts none: name the image in ${field}.url`,
    );
  if (pullMethod === 'node')
    throw unsupported(
      `${field}.pullMethod is node: the image would be pulled and run as a pod, and this release starts none: use pullMethod pod, by which the disk is read out of the registry`,
    );
  // of a manifest that the API server has not seen it may be anything
  if (namesArchive(String(url)))
    throw unsupported(
      `${field}.url is an oci-archive, a file on the machine that imports, which no DataVolume may read: use docker://`,
    );
}

function nameOf(kind: SourceKind): string {
  if (kind === 'external') return 'external population';
  return kind === 'sourceRef' ? 'spec.sourceRef' : `spec.source.${kind}`;
}

function isPopulatedFromOutside({ pvc, storage }: Spec): boolean {
  return [pvc, storage].some((claim) => claim?.dataSource ?? claim?.dataSourceRef);
}

function unsupported(message: string): Error {
  return permanentFailure('UnsupportedSource', message);
}
