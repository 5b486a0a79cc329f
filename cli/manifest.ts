import { parseS3Url } from '../activities/image/source/s3-address.js';
import type { DataVolumeManifest } from '../client/index.js';
import { CliError, EXIT } from './errors.js';
import { findMisfit } from './misfits.js';

/** Sources that an import reads from, as `spec.source` names them. */
export type ImportSource = 'http' | 's3' | 'gcs' | 'registry';

/** What of a DataVolume and its claim every command says that makes one. */
export interface ClaimOptions {
  readonly name: string;
  readonly namespace: string;
  readonly size: string;
  readonly storageClass?: string;
  readonly accessMode?: readonly string[];
  readonly pvc?: boolean;
  readonly waitForConsumer?: boolean;
}

/** What of a DataVolume the options of `dvflow blank` say. */
export interface BlankOptions extends ClaimOptions {
  readonly volumeMode?: 'Filesystem' | 'Block';
  readonly preallocation?: boolean;
}

/** What of a DataVolume the options of `dvflow clone` say. */
export interface CloneOptions extends Omit<ClaimOptions, 'size'> {
  /** @default the size of the source's disk */
  readonly size?: string;
  /** The source is a DataSource. */
  readonly dataSource?: boolean;
  readonly volumeMode?: 'Filesystem' | 'Block';
  readonly contentType?: 'kubevirt' | 'archive';
}

/** What of a DataVolume the options of `dvflow upload` say. */
export interface UploadManifestOptions extends ClaimOptions {
  readonly volumeMode?: 'Filesystem' | 'Block';
  readonly archive?: boolean;
}

/** What of a DataVolume the options of `dvflow import` say. */
export interface ManifestOptions extends ClaimOptions {
  /** Kind of source where the address does not tell. */
  readonly source?: ImportSource;
  readonly contentType?: 'kubevirt' | 'archive';
  readonly checksum?: string;
  readonly secret?: string;
  readonly certConfigMap?: string;
  readonly arch?: string;
  readonly header?: readonly string[];
  readonly secretHeader?: readonly string[];
  readonly insecureSkipVerify?: boolean;
}

/** Who types this command waits for a disk, not for a pod that would use it. */
const AT_ONCE = { 'cdi.kubevirt.io/storage.bind.immediate.requested': 'true' };

/**
 * The manifest that a user would have written for these options.
 * @throws {@link CliError} for an option that the kind of source does not have
 */
export function manifestOf(url: string, options: ManifestOptions): DataVolumeManifest {
  const { contentType } = options;
  return dataVolumeOf(options, { source: sourceOf(url, options), ...(contentType ? { contentType } : {}) });
}

/** The manifest of a blank disk. */
export function blankManifestOf(options: BlankOptions): DataVolumeManifest {
  const { preallocation, volumeMode } = options;
  const spec = { source: { blank: {} }, ...(preallocation === undefined ? {} : { preallocation }) };
  return dataVolumeOf(options, spec, volumeMode ? { volumeMode } : {});
}

/**
 * The manifest of a clone of `NAME`, in the clone's own namespace, or `NAMESPACE/NAME`.
 * @throws {@link CliError} for a source that is neither, and for a claim whose size nothing says
 */
export function cloneManifestOf(source: string, options: CloneOptions): DataVolumeManifest {
  const { contentType, dataSource, pvc, size, volumeMode } = options;
  const parts = source.split('/');
  const [namespace, name] = parts.length === 1 ? [options.namespace, source] : parts;
  if (!namespace || !name || parts.length > 2)
    throw new CliError(`'${source}' is no source: give NAME or NAMESPACE/NAME`, EXIT.usage);
  if (pvc && size === undefined)
    throw new CliError('--pvc needs --size: only --storage takes the size of the source', EXIT.usage);
  const from = dataSource
    ? { sourceRef: { kind: 'DataSource', namespace, name } }
    : { source: { pvc: { namespace, name } } };
  const spec = { ...from, ...(contentType ? { contentType } : {}) };
  return dataVolumeOf(options, spec, volumeMode ? { volumeMode } : {});
}

/** The manifest of a disk that is uploaded. */
export function uploadManifestOf(options: UploadManifestOptions): DataVolumeManifest {
  const { archive, volumeMode } = options;
  const spec = { source: { upload: {} }, contentType: archive ? 'archive' : 'kubevirt' };
  return dataVolumeOf(options, spec, volumeMode ? { volumeMode } : {});
}

function dataVolumeOf(
  {
    name,
    namespace,
    size,
    storageClass,
    accessMode,
    pvc,
    waitForConsumer,
  }: Omit<ClaimOptions, 'size'> & { size?: string },
  spec: object,
  more: object = {},
): DataVolumeManifest {
  const accessModes = accessMode ?? (pvc ? ['ReadWriteOnce'] : undefined);
  const claim = {
    ...(accessModes ? { accessModes } : {}),
    ...(size === undefined ? {} : { resources: { requests: { storage: size } } }),
    ...(storageClass ? { storageClassName: storageClass } : {}),
    ...more,
  };
  return {
    apiVersion: 'cdi.kubevirt.io/v1beta1',
    kind: 'DataVolume',
    metadata: { name, namespace, ...(waitForConsumer ? {} : { annotations: AT_ONCE }) },
    spec: { ...spec, [pvc ? 'pvc' : 'storage']: claim },
  };
}

const SCHEMES: Readonly<Record<string, ImportSource>> = {
  's3:': 's3',
  'gs:': 'gcs',
  'docker:': 'registry',
};

function sourceOf(url: string, options: ManifestOptions): object {
  const kind = options.source ?? SCHEMES[URL.parse(url)?.protocol ?? ''] ?? 'http';
  refuseOptions(kind, options);
  const { checksum, secret, certConfigMap, header, secretHeader, insecureSkipVerify, arch } = options;
  const fields = {
    // CDI's API knows objects of S3 by the address of their endpoint only
    url: /^s3:/iu.test(url) ? parseS3Url(url).url.href : url,
    ...(checksum ? { checksum } : {}),
    ...(secret ? { secretRef: secret } : {}),
    ...(certConfigMap ? { certConfigMap } : {}),
    ...(header ? { extraHeaders: header } : {}),
    ...(secretHeader ? { secretExtraHeaders: secretHeader } : {}),
    ...(insecureSkipVerify ? { insecureSkipVerify } : {}),
    ...(arch ? { platform: { architecture: arch } } : {}),
  };
  return { [kind]: fields };
}

/** Options that only some kinds of source have; the API server would drop the field without a word. */
const ONLY_OF = {
  certConfigMap: ['http', 's3', 'registry'],
  header: ['http'],
  secretHeader: ['http'],
  insecureSkipVerify: ['http'],
  arch: ['registry'],
} as const satisfies Partial<Record<keyof ManifestOptions, readonly ImportSource[]>>;

function refuseOptions(kind: ImportSource, options: ManifestOptions): void {
  const misfit = findMisfit<ImportSource>(kind, options, ONLY_OF);
  if (!misfit) return;
  const { flag, kinds } = misfit;
  throw new CliError(`${flag} is no option of source ${kind}, only of ${kinds.join(', ')}`, EXIT.usage);
}
