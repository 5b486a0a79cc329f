/** What CDIConfig says, computed (`cdi.md` §1.7; CDI's `config-controller.go`). */
import type { V1StorageClass } from '@kubernetes/client-node';
import { CDI_ANNOTATIONS } from './names.js';
import type { Cdi, CdiConfig, CdiConfigSpec, CdiStatus, ResourceRequirements } from './objects.js';
import { DEFAULT_OVERHEAD, isOverhead } from './overhead.js';
import { mergeConditions } from './status.js';

/** What a transfer's pod gets where nobody says otherwise; CDI's. */
const POD_RESOURCES = {
  limits: { cpu: '750m', memory: '600M' },
  requests: { cpu: '100m', memory: '60M' },
} as const;

/** What an installation says when it is there. */
const DEPLOYED = [
  { type: 'Available', status: 'True', reason: 'DeployCompleted', message: 'Deployment Completed' },
  { type: 'Progressing', status: 'False' },
  { type: 'Degraded', status: 'False' },
] as const;

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
  const isSaid = DEPLOYED.every((wanted) =>
    before.some((said) => said.type === wanted.type && said.status === wanted.status),
  );
  if (isSaid && status?.phase === 'Deployed' && status.observedVersion === version) return undefined;
  const versions = { operatorVersion: version, targetVersion: version, observedVersion: version };
  return { ...status, phase: 'Deployed', ...versions, conditions: mergeConditions(before, DEPLOYED, now) };
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
