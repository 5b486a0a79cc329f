/** What CDIConfig says, computed (`cdi.md` §1.7; CDI's `config-controller.go`). */
import type { V1StorageClass } from '@kubernetes/client-node';
import { CDI_ANNOTATIONS } from './names.js';
import type { Cdi, CdiConfig, CdiConfigSpec, CdiStatus, ResourceRequirements } from './objects.js';
import { DEFAULT_OVERHEAD, isOverhead } from './overhead.js';

/** What a transfer's pod gets where nobody says otherwise; CDI's. */
const POD_RESOURCES = {
  limits: { cpu: '750m', memory: '600M' },
  requests: { cpu: '100m', memory: '60M' },
} as const;

/**
 * The CDI whose `spec.config` rules: the only one, or the only one whose phase is not `Error`; none while there is none, or
 * while there are several.
 */
export function activeCdi(all: readonly Cdi[]): Cdi | undefined {
  const alive = all.filter(({ metadata }) => !metadata.deletionTimestamp);
  if (alive.length === 1) return alive[0];
  const working = alive.filter(({ status }) => status?.phase !== 'Error');
  return working.length === 1 ? working[0] : undefined;
}

/**
 * What the status of an installation says, as CDI's operator says it; `undefined` where it says so already. There is nothing that this
 * object deploys: whoever reads it is answered by what is deployed.
 */
export function deployedStatus({ status }: Cdi, version: string, now = new Date()): CdiStatus | undefined {
  const before = status?.conditions ?? [];
  const wanted = { Available: 'True', Progressing: 'False', Degraded: 'False' };
  const said = (type: string, value: string): boolean =>
    before.some((condition) => condition.type === type && condition.status === value);
  const isSaid = status?.observedVersion === version && Object.entries(wanted).every(([k, v]) => said(k, v));
  if (isSaid && status.phase === 'Deployed') return undefined;
  const others = before.filter(({ type }) => !(type in wanted));
  const told = Object.entries(wanted).map(([type, value]) => {
    const old = said(type, value) ? before.find((condition) => condition.type === type) : undefined;
    const why = type === 'Available' ? { reason: 'DeployCompleted', message: 'Deployment Completed' } : {};
    const time = now.toISOString();
    return {
      type,
      status: value,
      ...why,
      lastHeartbeatTime: time,
      lastTransitionTime: old?.lastTransitionTime ?? time,
    };
  });
  const versions = { operatorVersion: version, targetVersion: version, observedVersion: version };
  return { ...status, phase: 'Deployed', ...versions, conditions: [...others, ...told] };
}

/** Whether the CDI has taken over the configuration: from then on it is the only place to edit it. */
export function hasAuthority({ metadata }: Cdi): boolean {
  return metadata.annotations?.[CDI_ANNOTATIONS.configAuthority] !== undefined;
}

/**
 * The CDI as it takes over the configuration: with its mark, and with what CDIConfig said until now where it says nothing
 * itself, so that nothing that was configured is lost by its mere appearance.
 */
export function takeOver(cdi: Cdi, config: CdiConfig | undefined): Cdi {
  const { metadata, spec } = cdi;
  const before = config?.spec;
  const adopted = spec?.config === undefined && before && Object.keys(before).length > 0;
  return {
    ...cdi,
    metadata: {
      ...metadata,
      annotations: { ...metadata.annotations, [CDI_ANNOTATIONS.configAuthority]: '' },
    },
    spec: { ...spec, ...(adopted ? { config: before } : {}) },
  };
}

/** The specification that is to hold: the CDI's, where one has the authority. */
export function configSpec(config: CdiConfig, cdi: Cdi | undefined): CdiConfigSpec {
  return cdi && hasAuthority(cdi) ? (cdi.spec?.config ?? {}) : (config.spec ?? {});
}

/** The status that holds for this specification; where uploads go is told by whoever runs the control role, and stays where nobody tells. */
export function configStatus(
  spec: CdiConfigSpec,
  before: CdiConfig['status'],
  classes: readonly V1StorageClass[],
  uploadProxyUrl?: string,
): NonNullable<CdiConfig['status']> {
  const names = classes.map(({ metadata }) => metadata?.name ?? '').sort();
  const scratch = spec.scratchSpaceStorageClass ?? '';
  const uploadProxyURL = spec.uploadProxyURLOverride || uploadProxyUrl;
  // what the specification no longer says goes from the status too
  const { importProxy: _, imagePullSecrets: __, ...others } = before ?? {};
  return {
    ...others,
    ...(uploadProxyURL ? { uploadProxyURL } : {}),
    preallocation: spec.preallocation ?? false,
    scratchSpaceStorageClass: names.includes(scratch) ? scratch : '',
    filesystemOverhead: overheads(spec, names),
    defaultPodResourceRequirements: {
      limits: resources(spec.podResourceRequirements, 'limits'),
      requests: resources(spec.podResourceRequirements, 'requests'),
    },
    ...(spec.importProxy ? { importProxy: spec.importProxy } : {}),
    ...(spec.imagePullSecrets ? { imagePullSecrets: spec.imagePullSecrets } : {}),
  };
}

/** For each class that exists its own, else the global one. */
function overheads({ filesystemOverhead }: CdiConfigSpec, names: readonly string[]) {
  const { global: told, storageClass = {} } = filesystemOverhead ?? {};
  const global = isOverhead(told) ? told : DEFAULT_OVERHEAD;
  const perClass = names.map((name) => {
    const own = Object.hasOwn(storageClass, name) ? storageClass[name] : undefined;
    return [name, isOverhead(own) ? own : global] as const;
  });
  return { global, storageClass: Object.fromEntries(perClass) };
}

function resources(
  told: ResourceRequirements | undefined,
  kind: 'limits' | 'requests',
): Readonly<Record<string, string | number>> {
  const { cpu, memory } = POD_RESOURCES[kind];
  return { cpu: told?.[kind]?.['cpu'] ?? cpu, memory: told?.[kind]?.['memory'] ?? memory };
}
