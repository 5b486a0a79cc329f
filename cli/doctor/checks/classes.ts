import type { V1StorageClass } from '@kubernetes/client-node';
import { HOSTPATH_PROVISIONERS } from '../../../activities/kubernetes/names.js';
import type { ClusterFacts } from '../cluster.js';
import { about, type Finding } from '../findings.js';
import type { Config, Profile, Provisioner } from '../objects.js';
import type { Reading } from '../reading.js';
import { notJudged } from './not-judged.js';

/** Annotation by which Kubernetes knows the class of claims that name none; the second was its name before 1.6. */
const DEFAULT = [
  'storageclass.kubernetes.io/is-default-class',
  'storageclass.beta.kubernetes.io/is-default-class',
];
/** Annotation by which CDI knows the class of disks that name none. */
const DEFAULT_VIRT = ['storageclass.kubevirt.io/is-default-virt-class'];

type StorageFacts = Pick<ClusterFacts, 'storageClasses' | 'provisioners' | 'profiles' | 'config'>;

/** StorageClasses, their defaults and profiles, and CDI's configuration. */
export function checkClasses(facts: StorageFacts): readonly Finding[] {
  const { storageClasses, provisioners, profiles, config } = facts;
  if (storageClasses.refused !== undefined)
    return [notJudged(about('Storage', 'StorageClasses'), storageClasses)];
  const classes = storageClasses.value;
  return [
    ...checkOwn(classes, provisioners.value ?? []),
    checkDefault(classes),
    ...checkProfiles(classes, profiles),
    ...checkConfig(config, classes),
  ];
}

/** Classes that dvflow serves: one at least, each with a pool. */
function checkOwn(classes: readonly V1StorageClass[], provisioners: readonly Provisioner[]): Finding[] {
  const own = classes.filter(({ provisioner }) => HOSTPATH_PROVISIONERS.includes(provisioner));
  if (own.length === 0) {
    return [
      about('Storage', 'StorageClass').problem({
        found: `no class has the provisioner ${HOSTPATH_PROVISIONERS[0]}`,
        means: 'no volume can be made on demand; only static local volumes can be filled',
        todo: 'kubectl apply -f deploy/examples/storage-class.yaml',
      }),
    ];
  }
  const pools = provisioners.flatMap(({ spec }) => (spec?.storagePools ?? []).map(({ name }) => name));
  return own.map((storageClass) => {
    const {
      metadata,
      parameters = {},
      volumeBindingMode = 'Immediate',
      reclaimPolicy = 'Delete',
    } = storageClass;
    const subject = about('Storage', `StorageClass ${metadata?.name}`);
    const pool = parameters.storagePool;
    if (pool !== undefined && !pools.includes(pool) && provisioners.length > 0) {
      return subject.problem({
        found: `its parameter storagePool names ${pool}; pools are: ${pools.join(', ') || 'none that is named'}`,
        means: 'claims of this class get no volume',
        todo: 'parameters cannot be changed: delete the class and create it with the name of a pool',
      });
    }
    return subject.ok(`${volumeBindingMode}, ${reclaimPolicy}${pool === undefined ? '' : `, pool ${pool}`}`);
  });
}

function checkDefault(classes: readonly V1StorageClass[]): Finding {
  const subject = about('Storage', 'default StorageClass');
  const marked = (annotations: readonly string[]): readonly string[] =>
    classes
      .filter(({ metadata }) => annotations.some((name) => metadata?.annotations?.[name] === 'true'))
      .map(({ metadata }) => metadata?.name ?? '');
  const [general, virt] = [marked(DEFAULT), marked(DEFAULT_VIRT)];
  const several = [general, virt].find((names) => names.length > 1);
  if (several) {
    return subject.warning({
      found: `${several.length} classes are marked: ${several.join(', ')}`,
      means: 'of several the newest counts, which is seldom what was meant',
      todo: `kubectl annotate storageclass ${several.at(-1)} ${(several === virt ? DEFAULT_VIRT : DEFAULT)[0]}-`,
    });
  }
  const names = [...general, ...virt.map((name) => `${name} for disks of virtual machines`)];
  if (names.length > 0) return subject.ok(names.join(', '));
  const [first] = classes.filter(({ provisioner }) => HOSTPATH_PROVISIONERS.includes(provisioner));
  return subject.warning({
    found: 'no class is marked as default',
    means: 'a DataVolume or claim without storageClassName fails or stays Pending',
    todo: `kubectl annotate storageclass ${first?.metadata?.name ?? '<class>'} ${DEFAULT[0]}=true`,
  });
}

/** Modes that a DataVolume leaves out come from the profile of its class. */
function checkProfiles(classes: readonly V1StorageClass[], profiles: Reading<readonly Profile[]>): Finding[] {
  const subject = about('Storage', 'StorageProfiles');
  if (profiles.refused !== undefined) return [notJudged(subject, profiles)];
  const byName = new Map(profiles.value.map((profile) => [profile.metadata.name, profile]));
  const names = classes.map(({ metadata }) => metadata?.name ?? '');
  const incomplete = names.filter(
    (name) => !(byName.get(name)?.status?.claimPropertySets ?? []).some((set) => set.accessModes?.length),
  );
  if (names.length === 0) return [];
  if (incomplete.length === 0) return [subject.ok(`complete for ${names.join(', ')}`)];
  const [first] = incomplete;
  const patch = `{"spec":{"claimPropertySets":[{"accessModes":["ReadWriteOnce"],"volumeMode":"Filesystem"}]}}`;
  return [
    subject.warning({
      found: `no modes are known for: ${incomplete.join(', ')}`,
      means:
        'where a DataVolume leaves out accessModes or volumeMode, ReadWriteOnce and Filesystem are taken',
      todo: byName.has(first ?? '')
        ? `kubectl patch storageprofile ${first} --type merge -p '${patch}'`
        : 'a control worker makes the missing profiles: see Workers',
    }),
  ];
}

function checkConfig(config: Reading<Config>, classes: readonly V1StorageClass[]): Finding[] {
  const subject = about('Storage', 'CDIConfig config');
  if (config.refused !== undefined) {
    if (config.kind !== 'notFound') return [notJudged(subject, config)];
    return [
      subject.problem({
        found: 'it does not exist',
        means: 'KubeVirt and virtctl read it and wait for it; first consumers are not waited for',
        todo: 'kubectl apply -k deploy/defaults',
      }),
    ];
  }
  const { spec, status } = config.value;
  const scratch = spec?.scratchSpaceStorageClass;
  const overhead = status?.filesystemOverhead?.global;
  if (scratch && !classes.some(({ metadata }) => metadata?.name === scratch)) {
    return [
      subject.problem({
        found: `scratchSpaceStorageClass names ${scratch}, which does not exist`,
        means:
          'scratch space falls back to another class, or imports that need it fail with ScratchSpaceRequired',
        todo: `create StorageClass ${scratch}, or: kubectl edit cdiconfig config`,
      }),
    ];
  }
  const told = [
    scratch ? `scratch space in ${scratch}` : 'scratch space in the default class',
    `file system overhead ${overhead ?? 'not set'}`,
    ...(spec?.featureGates ?? []),
  ];
  return [subject.ok(told.join(', '))];
}
