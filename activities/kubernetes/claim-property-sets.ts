/** What claims of a StorageClass may ask for: access modes by volume mode (`cdi.md` §1.8). */
import type { V1PersistentVolume, V1StorageClass } from '@kubernetes/client-node';
import { NO_PROVISIONER } from './names.js';
import type { ClaimPropertySet, StorageProfile } from './objects.js';
import { recognise } from './provisioner-variants.js';

/** Access modes of Kubernetes, by the letters of the table; in the order in which those of several volumes are offered. */
const ACCESS_MODES: Readonly<Record<string, string>> = {
  RWO: 'ReadWriteOnce',
  RWX: 'ReadWriteMany',
  ROX: 'ReadOnlyMany',
  RWOP: 'ReadWriteOncePod',
};
const VOLUME_MODES: Readonly<Record<string, string>> = { file: 'Filesystem', block: 'Block' };

/** Every access mode that a claim can have. */
export const KNOWN_ACCESS_MODES: readonly string[] = Object.values(ACCESS_MODES);
/** Every volume mode that a claim can have. */
export const KNOWN_VOLUME_MODES: readonly string[] = Object.values(VOLUME_MODES);

/**
 * What the class offers, preferred first: what an operator wrote into the profile's spec, else what provisioner and parameters
 * are known for, else what its volumes are where an administrator makes them. Nothing where nothing is known. The profile's
 * status is this very result and not asked, so that neither a class nor an edit of a moment ago is judged by what was before.
 * A set without access modes, which the API accepts, offers nothing.
 */
export function offeredSets(
  storageClass: V1StorageClass,
  profile: Pick<StorageProfile, 'spec'> | undefined,
  volumes: readonly V1PersistentVolume[],
): readonly ClaimPropertySet[] {
  const told = profile?.spec?.claimPropertySets;
  if (told?.length) return told.filter(({ accessModes, volumeMode }) => accessModes?.length && volumeMode);
  if (storageClass.provisioner === NO_PROVISIONER) return setsOfVolumes(storageClass, volumes);
  const recognised = recognise(storageClass);
  return 'facts' in recognised && recognised.facts ? parseSets(recognised.facts.offers) : [];
}

/** `RWX/block RWO/file` as sets. */
function parseSets(offers: string): readonly ClaimPropertySet[] {
  return offers.split(' ').map((offer) => {
    const [access = '', volume = ''] = offer.split('/');
    return setOf(ACCESS_MODES[access] ?? '', VOLUME_MODES[volume] ?? '');
  });
}

/** What the class's volumes are, Filesystem and ReadWriteOnce first, as an order that does not change. */
function setsOfVolumes(
  { metadata }: V1StorageClass,
  volumes: readonly V1PersistentVolume[],
): readonly ClaimPropertySet[] {
  const own = volumes.filter(({ spec }) => (spec?.storageClassName ?? '') === metadata?.name);
  return KNOWN_VOLUME_MODES.flatMap((volumeMode) => {
    const ofMode = own.filter(({ spec }) => (spec?.volumeMode ?? 'Filesystem') === volumeMode);
    return KNOWN_ACCESS_MODES.filter((accessMode) =>
      ofMode.some(({ spec }) => spec?.accessModes?.includes(accessMode)),
    ).map((accessMode) => setOf(accessMode, volumeMode));
  });
}

function setOf(accessMode: string, volumeMode: string): ClaimPropertySet {
  return { accessModes: [accessMode], volumeMode };
}

/**
 * Whether the sets offer each of these access modes with this volume mode; a claim may ask for several at once although
 * the table names one in each set. Where one node may write, one Pod may.
 */
export function offers(
  sets: readonly ClaimPropertySet[],
  accessModes: readonly string[],
  volumeMode: string | undefined,
): boolean {
  const offered = new Set(
    sets.filter((set) => set.volumeMode === volumeMode).flatMap((set) => set.accessModes ?? []),
  );
  return accessModes.every(
    (mode) => offered.has(mode) || (mode === 'ReadWriteOncePod' && offered.has('ReadWriteOnce')),
  );
}

/** The sets as a sentence says them: `ReadWriteMany with Block, ReadWriteOnce with Filesystem`. */
export function describeSets(sets: readonly ClaimPropertySet[]): string {
  return sets
    .map(({ accessModes, volumeMode }) => `${accessModes?.join(' or ')} with ${volumeMode}`)
    .join(', ');
}
