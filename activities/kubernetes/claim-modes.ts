/** The modes of a claim, completed where a DataVolume leaves them out, and refused where its class cannot do it (`design.md` §5). */
import { permanentFailure } from '../failures.js';
import { describeSets, KNOWN_ACCESS_MODES, KNOWN_VOLUME_MODES, offers } from './claim-property-sets.js';
import type { ClaimPropertySet, ClaimTemplate } from './objects.js';
import { DEFAULTS_CONFIG_MAP } from './storage-classes.js';

/** Modes of a claim, all known. */
export interface ClaimModes {
  readonly accessModes: readonly string[];
  readonly volumeMode: 'Filesystem' | 'Block';
}

/** What decides the modes of `spec.storage`. */
export interface ModeFacts {
  readonly template: Pick<ClaimTemplate, 'accessModes' | 'volumeMode'>;
  /** Content of the disk; an archive is unpacked into a file system, whatever the defaults are. */
  readonly contentType?: string | undefined;
  readonly storageClass: string;
  /** `data` of the ConfigMap. */
  readonly defaults: Readonly<Record<string, string>>;
  /** What the class offers; nothing where nothing is known of it. */
  readonly sets: readonly ClaimPropertySet[];
}

/** A value, and who said it where that was not the DataVolume. */
interface Told<T> {
  readonly value: T;
  readonly by?: string;
}

/** Placeholder of CDI for a mode that is left out. */
const FROM_PROFILE = 'FromStorageProfile';

/**
 * The modes, each by itself: the manifest, the ConfigMap's key of this class, the first set of the class that fits what is known,
 * the ConfigMap's global key, `ReadWriteOnce` and `Filesystem`.
 *
 * @throws {@link FailureType} `IncompatiblePVC` where the class does not offer the result, and where a value of the ConfigMap
 * that is needed is no mode; `InvalidDataVolume` where one of the manifest is none
 */
export function completeModes(facts: ModeFacts): ClaimModes {
  const { storageClass, sets } = facts;
  const access = accessModesTold(facts);
  const volume = volumeModeTold(facts);
  const fitting = sets.find(
    (set) =>
      (!volume || set.volumeMode === volume.value) && (!access || offers(sets, access.value, set.volumeMode)),
  );
  const by = `as StorageProfile ${storageClass} prefers`;
  const accessModes = access ??
    told(fitting?.accessModes, by) ??
    asList(fromConfigMap(facts, 'accessMode', KNOWN_ACCESS_MODES)) ?? {
      value: ['ReadWriteOnce'],
      by: 'by default',
    };
  const volumeMode = volume ??
    told(fitting?.volumeMode, by) ??
    fromConfigMap(facts, 'volumeMode', KNOWN_VOLUME_MODES) ?? { value: 'Filesystem', by: 'by default' };
  refuseExcluded(facts, accessModes, volumeMode);
  return {
    accessModes: accessModes.value,
    volumeMode: volumeMode.value === 'Block' ? 'Block' : 'Filesystem',
  };
}

function accessModesTold(facts: ModeFacts): Told<readonly string[]> | undefined {
  const { accessModes } = facts.template;
  if (accessModes?.length) return { value: accessModes };
  return asList(fromConfigMap(facts, `${facts.storageClass}.accessMode`, KNOWN_ACCESS_MODES));
}

function volumeModeTold(facts: ModeFacts): Told<string> | undefined {
  const { template, contentType, storageClass } = facts;
  const asked = template.volumeMode === FROM_PROFILE ? undefined : template.volumeMode;
  if (asked && !KNOWN_VOLUME_MODES.includes(asked)) {
    throw permanentFailure(
      'InvalidDataVolume',
      `spec.storage.volumeMode is ${asked}: it is one of ${KNOWN_VOLUME_MODES.join(', ')}`,
    );
  }
  if (asked) return { value: asked };
  if (contentType === 'archive')
    return { value: 'Filesystem', by: 'as contentType archive needs a file system' };
  return fromConfigMap(facts, `${storageClass}.volumeMode`, KNOWN_VOLUME_MODES);
}

/** A value of the ConfigMap that is needed; an empty one is none, as for OpenShift's console. */
function fromConfigMap(
  { defaults }: ModeFacts,
  key: string,
  known: readonly string[],
): Told<string> | undefined {
  const value = Object.hasOwn(defaults, key) ? defaults[key] : undefined;
  if (!value) return undefined;
  const where = `key "${key}" of ConfigMap ${DEFAULTS_CONFIG_MAP}`;
  if (known.includes(value)) return { value, by: `as ${where} says` };
  throw permanentFailure('IncompatiblePVC', `${where} is "${value}": it is one of ${known.join(', ')}`);
}

function told<T>(value: T | undefined, by: string): Told<T> | undefined {
  return value === undefined ? undefined : { value, by };
}

function asList(one: Told<string> | undefined): Told<readonly string[]> | undefined {
  return one && { ...one, value: [one.value] };
}

/** Of a class that nothing is known of, nothing is refused here: whoever makes the volume will say. */
function refuseExcluded(
  { sets, storageClass }: ModeFacts,
  access: Told<readonly string[]>,
  volume: Told<string>,
): void {
  if (sets.length === 0 || offers(sets, access.value, volume.value)) return;
  const offer = `StorageClass "${storageClass}" offers ${describeSets(sets)}`;
  const volumeMode = `volumeMode is ${volume.value}${saidBy(volume)}`;
  if (!sets.some((set) => set.volumeMode === volume.value))
    throw permanentFailure('IncompatiblePVC', `${volumeMode}: ${offer}`);
  throw permanentFailure(
    'IncompatiblePVC',
    `accessMode is ${access.value.join(', ')}${saidBy(access)}, and ${volumeMode}: ${offer}`,
  );
}

function saidBy({ by }: Told<unknown>): string {
  return by === undefined ? '' : `, ${by}`;
}
