/** What a StorageProfile says of its class, computed (`cdi.md` §1.8; CDI's `storageprofile-controller.go`). */
import type { V1PersistentVolume, V1StorageClass } from '@kubernetes/client-node';
import { offeredSets } from './claim-property-sets.js';
import { CDI_ANNOTATIONS, NO_PROVISIONER } from './names.js';
import type { CloneStrategy, DataVolumeCondition, ObjectMeta, StorageProfile } from './objects.js';
import { WITHOUT_DISKS } from './provisioner-table.js';
import type { ProvisionerFacts } from './provisioner-table.js';
import { recognise } from './provisioner-variants.js';

/** A VolumeSnapshotClass, as far as profiles ask it. */
export interface SnapshotClass {
  readonly metadata: Pick<ObjectMeta, 'name' | 'annotations'>;
  readonly driver: string;
}

/** Everything that decides a profile. */
export interface ProfileFacts {
  readonly storageClass: V1StorageClass;
  /** The profile as it is; absent where nobody made one. */
  readonly profile?: StorageProfile | undefined;
  readonly volumes: readonly V1PersistentVolume[];
  readonly snapshotClasses: readonly SnapshotClass[];
  readonly now: Date;
}

const DEFAULT_SNAPSHOT_CLASS = 'snapshot.storage.kubernetes.io/is-default-class';

/** Messages of condition `Recognized`, by reason; CDI's. */
const RECOGNISED = {
  RecognizedProvisioner: 'Provisioner is recognized',
  UnrecognizedProvisioner: 'Provisioner is not recognized',
  UnrecognizedStorageClassParameters: 'Storage class parameters are not recognized',
} as const;

/** Annotations that the profile is to have besides its own; what somebody else wrote stays. */
export function profileAnnotations({ storageClass }: ProfileFacts): Readonly<Record<string, string>> {
  const minimum = factsOf(storageClass)?.minimumSize;
  return minimum === undefined ? {} : { [CDI_ANNOTATIONS.minimumClaimSize]: minimum };
}

/** The status that holds; the same facts give the same status, so that replicas do not write against each other. */
export function profileStatus(facts: ProfileFacts): NonNullable<StorageProfile['status']> {
  const { storageClass, profile, volumes } = facts;
  const sets = offeredSets(storageClass, profile, volumes);
  const snapshotClass = chooseSnapshotClass(facts);
  return {
    storageClass: storageClass.metadata?.name ?? '',
    provisioner: storageClass.provisioner,
    claimPropertySets: sets,
    cloneStrategy: chooseCloneStrategy(facts, snapshotClass),
    dataImportCronSourceFormat: chooseCronFormat(facts, snapshotClass),
    ...(snapshotClass === undefined ? {} : { snapshotClass }),
    conditions: conditionsOf(facts, sets.length > 0),
  };
}

/** Whether nothing is known of what claims of the class may ask for, although disks may lie in it; CDI's `complete: false`. */
export function isIncomplete({ status }: StorageProfile): boolean {
  const { provisioner = '', claimPropertySets = [] } = status ?? {};
  if ([...WITHOUT_DISKS, NO_PROVISIONER].includes(provisioner)) return false;
  return (
    claimPropertySets.length === 0 ||
    claimPropertySets.some((set) => !set.accessModes?.length || !set.volumeMode)
  );
}

function factsOf(storageClass: V1StorageClass): ProvisionerFacts | undefined {
  const recognised = recognise(storageClass);
  return 'facts' in recognised ? recognised.facts : undefined;
}

/** The class that the spec names, if it is the provisioner's; else the default of the provisioner's, else the first by name. */
function chooseSnapshotClass({ storageClass, profile, snapshotClasses }: ProfileFacts): string | undefined {
  const own = snapshotClasses
    .filter(({ driver }) => driver === storageClass.provisioner)
    .toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
  const named = profile?.spec?.snapshotClass;
  const chosen =
    named === undefined
      ? (own.find(({ metadata }) => metadata.annotations?.[DEFAULT_SNAPSHOT_CLASS] === 'true') ?? own[0])
      : own.find(({ metadata }) => metadata.name === named);
  return chosen?.metadata.name;
}

/** Spec, then the class's annotation, then what is known, then by snapshot where there is a class for it, else by copying. */
function chooseCloneStrategy(
  { storageClass, profile }: ProfileFacts,
  snapshotClass: string | undefined,
): CloneStrategy {
  const annotated = storageClass.metadata?.annotations?.[CDI_ANNOTATIONS.cloneStrategy];
  const told = profile?.spec?.cloneStrategy ?? CLONE_STRATEGIES.find((strategy) => strategy === annotated);
  if (told) return told;
  const advised = factsOf(storageClass)?.cloneStrategy ?? 'snapshot';
  return advised === 'snapshot' && snapshotClass === undefined ? 'copy' : advised;
}

const CLONE_STRATEGIES: readonly CloneStrategy[] = ['copy', 'snapshot', 'csi-clone'];

function chooseCronFormat(
  { storageClass, profile }: ProfileFacts,
  snapshotClass: string | undefined,
): 'pvc' | 'snapshot' {
  const told = profile?.spec?.dataImportCronSourceFormat;
  if (told) return told;
  return snapshotClass === undefined ? 'pvc' : (factsOf(storageClass)?.cronFormat ?? 'pvc');
}

/** CDI's `Recognized`, and `Complete`, which says what an operator has to do. */
function conditionsOf(facts: ProfileFacts, complete: boolean): readonly DataVolumeCondition[] {
  const { reason } = recognise(facts.storageClass);
  return [
    condition(facts, {
      type: 'Recognized',
      status: reason === 'RecognizedProvisioner' ? 'True' : 'False',
      reason,
      message: RECOGNISED[reason],
    }),
    condition(facts, {
      type: 'Complete',
      status: complete ? 'True' : 'False',
      reason: complete ? 'ClaimPropertySetsKnown' : 'ClaimPropertySetsUnknown',
      message: complete ? 'What claims may ask for is known' : unknownBecause(facts),
    }),
  ];
}

function unknownBecause({ profile, storageClass: { metadata, provisioner } }: ProfileFacts): string {
  if (profile?.spec?.claimPropertySets?.length)
    return 'spec.claimPropertySets holds no set with access modes';
  if (provisioner === NO_PROVISIONER)
    return `there is no PersistentVolume of StorageClass ${metadata?.name}, whose volumes an administrator makes`;
  return (
    `nothing is known of provisioner ${provisioner} with these parameters: set spec.claimPropertySets; until then ` +
    'DataVolumes that leave their modes out get ReadWriteOnce and Filesystem'
  );
}

/** Its times move only when it does. */
function condition(
  { profile, now }: ProfileFacts,
  wanted: Required<Pick<DataVolumeCondition, 'type' | 'status' | 'reason' | 'message'>>,
): DataVolumeCondition {
  const before = profile?.status?.conditions?.find(({ type }) => type === wanted.type);
  const { status, reason, message } = wanted;
  if (before?.status === status && before.reason === reason && before.message === message) return before;
  const at = `${now.toISOString().slice(0, 19)}Z`;
  const since = before?.status === status ? before.lastTransitionTime : at;
  return { ...wanted, lastTransitionTime: since, lastHeartbeatTime: at };
}
