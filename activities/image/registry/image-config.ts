import { unsupported, invalid } from '../refusals.js';
import { permanentFailure } from '../../failures.js';
import { asArray, asRecord, asText, parseRecord } from './json.js';

/** Largest image configuration that is read, in bytes. */
export const CONFIG_LIMIT = 8 * 1024 * 1024;
const MOST_LABELS = 100;

const ENV_MARK = 'KUBEVIRT_IO_';
/** Labels of Kubernetes: a DNS subdomain, a slash, a name of up to 63 characters; values likewise. */
const LABEL_KEY = /^(?=.{1,253}\/)[a-z0-9]+(?:[-.][a-z0-9]+)*\/[a-z0-9](?:[-a-z0-9_.]{0,61}[a-z0-9])?$/u;
const LABEL_VALUE = /^(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/u;

/** What of an image's configuration matters to an import. */
export interface ImageConfig {
  /** In Go's spelling; absent where the configuration does not say. */
  readonly architecture?: string;
  /** `config.Labels` of the image. */
  readonly imageLabels: Readonly<Record<string, unknown>>;
  /** Kubernetes labels that the image's `KUBEVIRT_IO_*` variables mean. */
  readonly labels: Readonly<Record<string, string>>;
  /** Variables among them that are no valid labels. */
  readonly invalidLabels: number;
}

/**
 * Reads an OCI or Docker image configuration.
 * @throws {@link FailureType} `ImageInvalid`
 */
export function parseConfig(bytes: Buffer, where: string): ImageConfig {
  const document = parseRecord(bytes);
  if (!document) throw invalid(`configuration of ${where} is no JSON object`);
  const config = asRecord(document['config']);
  const architecture = asText(document['architecture']);
  return {
    ...(architecture ? { architecture } : {}),
    imageLabels: asRecord(config?.['Labels']) ?? {},
    ...labelsFrom(asArray(config?.['Env']) ?? []),
  };
}

/**
 * CDI's mapping: `INSTANCETYPE_KUBEVIRT_IO_DEFAULT_INSTANCETYPE=u1.small` means
 * `instancetype.kubevirt.io/default-instancetype: u1.small` (`pkg/importer/util.go`).
 */
function labelsFrom(env: readonly unknown[]): Pick<ImageConfig, 'labels' | 'invalidLabels'> {
  const labels = new Map<string, string>();
  let invalidLabels = 0;
  for (const variable of env) {
    const [, name = '', value = ''] = /^([^=]*)=(.*)$/su.exec(asText(variable) ?? '') ?? [];
    const mark = name.indexOf(ENV_MARK);
    if (mark < 0) continue;
    const key = labelKey(name.slice(0, mark), name.slice(mark + ENV_MARK.length));
    const valid = LABEL_KEY.test(key) && LABEL_VALUE.test(value) && labels.size < MOST_LABELS;
    if (valid) labels.set(key, value);
    else invalidLabels += 1;
  }
  return { labels: Object.fromEntries(labels), invalidLabels };
}

function labelKey(before: string, after: string): string {
  const group = before.replace(/_$/u, '').replaceAll('_', '.');
  return `${group === '' ? '' : `${group}.`}kubevirt.io/${after.replaceAll('_', '-')}`.toLowerCase();
}

/**
 * Holds an image to what was asked for: its architecture where one was named, and no operating system in a container.
 * @throws {@link FailureType} `SourceNotFound`, `UnsupportedFormat`
 */
export function assertImportable(config: ImageConfig, requested: string | undefined, where: string): void {
  const { architecture, imageLabels } = config;
  if (requested !== undefined && architecture !== requested) {
    const found = /^[a-z0-9_]{1,20}$/u.test(architecture ?? '') ? architecture : '';
    throw permanentFailure(
      'SourceNotFound',
      `${where}: manifest image architecture: "${found}" doesn't match requested architecture: "${requested}"`,
    );
  }
  if (imageLabels['containers.bootc'] === '1' || imageLabels['ostree.bootable'] === '1')
    throw unsupported(
      'bootc image detected: this image contains an ostree-based bootable OS (containers.bootc=1 or ostree.bootable=1) and ' +
        'cannot be imported as a regular container disk; bootc-to-disk conversion is not yet implemented',
    );
}
