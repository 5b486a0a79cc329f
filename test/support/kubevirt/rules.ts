/** How KubeVirt reads DataVolumes and claims (`clients.md` §3.2, §3.4), as pure functions of the objects. */
import type { V1OwnerReference, V1PersistentVolumeClaim } from '@kubernetes/client-node';

/** A VirtualMachine, as far as it is about disks. */
export interface VirtualMachine {
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly uid: string;
    readonly deletionTimestamp?: string;
  };
  readonly spec: {
    readonly running?: boolean;
    readonly dataVolumeTemplates?: readonly DataVolumeTemplate[];
    readonly template: {
      readonly spec: {
        readonly priorityClassName?: string;
        readonly volumes?: readonly {
          readonly dataVolume?: { readonly name: string };
          readonly persistentVolumeClaim?: { readonly claimName: string };
        }[];
      };
    };
  };
}

/** An entry of `dataVolumeTemplates`. */
export interface DataVolumeTemplate {
  readonly metadata: {
    readonly name: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly spec: Readonly<Record<string, unknown>> & {
    readonly priorityClassName?: string;
    readonly source?: { readonly pvc?: { readonly namespace: string; readonly name: string } };
  };
}

/** A DataVolume, as far as KubeVirt looks. */
export interface SeenDataVolume {
  readonly metadata: { readonly name: string; readonly uid: string };
  readonly status?: {
    readonly phase?: string;
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly reason?: string;
    }[];
  };
}

/** The ownerReference of what is a machine's. */
export function ownerOf({ metadata: { name, uid } }: VirtualMachine): V1OwnerReference {
  return {
    apiVersion: 'kubevirt.io/v1',
    kind: 'VirtualMachine',
    name,
    uid,
    controller: true,
    blockOwnerDeletion: true,
  };
}

/** The DataVolume that virt-controller makes of a template: `CreateDataVolumeManifest`. */
export function dataVolumeOf(template: DataVolumeTemplate, machine: VirtualMachine): object {
  const { uid, namespace } = machine.metadata;
  const { priorityClassName } = machine.spec.template.spec;
  const { metadata, spec } = template;
  return {
    apiVersion: 'cdi.kubevirt.io/v1beta1',
    kind: 'DataVolume',
    metadata: {
      name: metadata.name,
      namespace,
      labels: { ...metadata.labels, 'kubevirt.io/created-by': uid },
      annotations: { ...metadata.annotations, 'cdi.kubevirt.io/allowClaimAdoption': 'true' },
      ownerReferences: [ownerOf(machine)],
    },
    spec: { ...(priorityClassName ? { priorityClassName } : {}), ...spec },
  };
}

/** Phases of its templated DataVolumes under which a machine may start: `handleDataVolumes`. */
export function mayStart(phase: string | undefined): boolean {
  return ['Succeeded', 'WaitForFirstConsumer', 'PendingPopulation'].includes(phase ?? '');
}

/** What the machine's pod is told about a volume: `VolumeReadyToAttachToNode`. */
export function readinessOf(
  claim: V1PersistentVolumeClaim | undefined,
  find: (name: string) => SeenDataVolume | undefined,
): 'no claim' | 'ready' | 'first consumer' | 'waiting' {
  if (!claim) return 'no claim';
  const owner = claim.metadata?.ownerReferences?.find(({ controller }) => controller);
  // a claim that no DataVolume controls holds a disk already, as far as KubeVirt knows
  if (owner?.kind !== 'DataVolume') return 'ready';
  const phase = find(owner.name)?.status?.phase;
  if (phase === 'Succeeded' || phase === 'PendingPopulation') return 'ready';
  return phase === 'WaitForFirstConsumer' ? 'first consumer' : 'waiting';
}

/** Names of the claims that a machine's pod mounts. */
export function claimsOf({ spec }: VirtualMachine): readonly string[] {
  return (spec.template.spec.volumes ?? []).flatMap(
    ({ dataVolume, persistentVolumeClaim }) => dataVolume?.name ?? persistentVolumeClaim?.claimName ?? [],
  );
}
