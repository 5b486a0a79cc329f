/**
 * What KubeVirt's virt-controller does with the DataVolumes and claims of one namespace's machines, with the rights that it has
 * there: makes what templates ask for, and starts pods when they may. virt-controller itself needs the rest of KubeVirt.
 */
import { setTimeout as pause } from 'node:timers/promises';
import {
  AuthorizationV1Api,
  CoreV1Api,
  CustomObjectsApi,
  type KubeConfig,
  type V1Pod,
} from '@kubernetes/client-node';
import type { TestStack } from '../stack.js';
import { createAccount } from '../accounts.js';
import {
  claimsOf,
  dataVolumeOf,
  mayStart,
  ownerOf,
  readinessOf,
  type DataVolumeTemplate,
  type SeenDataVolume,
  type VirtualMachine,
} from './rules.js';

/** Marks the pod that only makes the scheduler choose a node. */
export const EPHEMERAL = 'kubevirt.io/ephemeral-provisioning';

const MACHINES = { group: 'kubevirt.io', version: 'v1', plural: 'virtualmachines' } as const;
const DATA_VOLUMES = { group: 'cdi.kubevirt.io', version: 'v1beta1', plural: 'datavolumes' } as const;
const ROUND_MS = 150;

/** A controller at work. */
export interface VirtController {
  /** What it made of each look at a machine, when that changed: `<machine>: waiting`. */
  readonly seen: readonly string[];
  stop(): Promise<void>;
}

/** Makes the account of KubeVirt's controller, with KubeVirt's rights on CDI; resolves with the way in. */
export async function createVirtAccount(stack: TestStack, namespace: string): Promise<KubeConfig> {
  const role = `kubevirt-controller-${namespace}`;
  const account = await createAccount(stack, namespace, 'kubevirt-controller');
  const rules = [
    { apiGroups: ['cdi.kubevirt.io'], resources: ['*'], verbs: ['*'] },
    { apiGroups: ['kubevirt.io'], resources: ['*'], verbs: ['*'] },
    { apiGroups: ['authorization.k8s.io'], resources: ['subjectaccessreviews'], verbs: ['create'] },
    {
      apiGroups: [''],
      resources: ['pods'],
      verbs: ['get', 'list', 'watch', 'delete', 'update', 'create', 'patch'],
    },
    {
      apiGroups: [''],
      resources: ['persistentvolumeclaims'],
      verbs: ['get', 'list', 'watch', 'create', 'update', 'delete', 'patch'],
    },
  ];
  const roleBody = {
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'ClusterRole',
    metadata: { name: role },
    rules,
  };
  await stack.kubectl(['create', '-f', '-'], { input: JSON.stringify(roleBody) });
  await stack.kubectl([
    'create',
    'clusterrolebinding',
    role,
    `--clusterrole=${role}`,
    `--serviceaccount=${namespace}:kubevirt-controller`,
  ]);
  return account;
}

/** Starts to serve the machines of a namespace. */
export function startVirtController(kubeConfig: KubeConfig, namespace: string): VirtController {
  const core = kubeConfig.makeApiClient(CoreV1Api);
  const custom = kubeConfig.makeApiClient(CustomObjectsApi);
  const seen: string[] = [];
  const last = new Map<string, string>();
  /** Machines, by uid, whose instance has been made. */
  const started = new Set<string>();
  const stopping = new AbortController();

  async function list<T>(where: typeof MACHINES | typeof DATA_VOLUMES): Promise<readonly T[]> {
    const answer: unknown = await custom.listNamespacedCustomObject({ ...where, namespace });
    return (answer as { items: T[] }).items;
  }

  async function round(): Promise<void> {
    const machines = await list<VirtualMachine>(MACHINES);
    for (const name of last.keys())
      if (!machines.some(({ metadata }) => metadata.name === name)) say(name, 'gone');
    for (const machine of machines)
      if (!machine.metadata.deletionTimestamp) say(machine.metadata.name, await serve(machine));
  }

  function say(name: string, state: string): void {
    if (last.get(name) !== state) seen.push(`${name}: ${state}`);
    last.set(name, state);
  }

  async function serve(machine: VirtualMachine): Promise<string> {
    const dataVolumes = await list<SeenDataVolume>(DATA_VOLUMES);
    const find = (name: string): SeenDataVolume | undefined =>
      dataVolumes.find(({ metadata }) => metadata.name === name);
    let ready = true;
    for (const template of machine.spec.dataVolumeTemplates ?? []) {
      const found = find(template.metadata.name);
      if (!found) {
        const refusal = await make(template, machine);
        if (refusal) return refusal;
      }
      ready &&= mayStart(found?.status?.phase);
    }
    // once there is an instance, it looks at its claims by itself
    if (!ready && !started.has(machine.metadata.uid)) return 'templates are not ready';
    if (!machine.spec.running) return 'may start';
    started.add(machine.metadata.uid);
    return await start(machine, find);
  }

  /** Before it makes a clone it asks whether the machine's own account may, as it may itself do anything. */
  async function make(template: DataVolumeTemplate, machine: VirtualMachine): Promise<string | undefined> {
    const { pvc } = template.spec.source ?? {};
    if (pvc && pvc.namespace !== namespace && !(await mayClone(pvc))) return 'UnauthorizedDataVolumeCreate';
    try {
      await custom.createNamespacedCustomObject({
        ...DATA_VOLUMES,
        namespace,
        body: dataVolumeOf(template, machine),
      });
      return undefined;
    } catch (error) {
      return `FailedDataVolumeCreate: ${String((error as { body?: string }).body ?? error)}`;
    }
  }

  async function mayClone(source: { namespace: string; name: string }): Promise<boolean> {
    const review = kubeConfig.makeApiClient(AuthorizationV1Api);
    const attributes = [
      { group: 'cdi.kubevirt.io', resource: 'datavolumes', subresource: 'source' },
      { group: '', resource: 'pods' },
    ];
    for (const resource of attributes) {
      const spec = {
        user: `system:serviceaccount:${namespace}:default`,
        groups: ['system:serviceaccounts', `system:serviceaccounts:${namespace}`, 'system:authenticated'],
        resourceAttributes: { ...resource, ...source, verb: 'create' },
      };
      if ((await review.createSubjectAccessReview({ body: { spec } })).status?.allowed) return true;
    }
    return false;
  }

  async function start(
    machine: VirtualMachine,
    find: (name: string) => SeenDataVolume | undefined,
  ): Promise<string> {
    const { items } = await core.listNamespacedPersistentVolumeClaim({ namespace });
    const names = claimsOf(machine);
    const states = names.map((name) =>
      readinessOf(
        items.find(({ metadata }) => metadata?.name === name),
        find,
      ),
    );
    const worst = (['no claim', 'waiting', 'first consumer'] as const).find((state) =>
      states.includes(state),
    );
    const [provisioner, launcher] = [
      `provision-${machine.metadata.name}`,
      `virt-launcher-${machine.metadata.name}`,
    ];
    if (worst === 'first consumer') await makePod(machine, provisioner, { [EPHEMERAL]: 'true' });
    else await removePod(provisioner);
    if (worst === undefined) await makePod(machine, launcher, {});
    return worst ?? 'starts';
  }

  /** Its owner would be the VirtualMachineInstance, which goes with the machine too. */
  async function makePod(
    machine: VirtualMachine,
    name: string,
    annotations: Record<string, string>,
  ): Promise<void> {
    const body: V1Pod = {
      metadata: { name, annotations, ownerReferences: [ownerOf(machine)] },
      spec: {
        terminationGracePeriodSeconds: 0,
        containers: [{ name: 'compute', image: 'none', command: ['/bin/bash', '-c', 'echo bound PVCs'] }],
        volumes: claimsOf(machine).map((claimName) => ({
          name: claimName,
          persistentVolumeClaim: { claimName },
        })),
      },
    };
    await core.createNamespacedPod({ namespace, body }).catch(unless(409));
  }

  async function removePod(name: string): Promise<void> {
    await core.deleteNamespacedPod({ namespace, name, gracePeriodSeconds: 0 }).catch(unless(404));
  }

  async function work(): Promise<void> {
    while (!stopping.signal.aborted) {
      await round();
      await pause(ROUND_MS, undefined, { signal: stopping.signal }).catch(() => undefined);
    }
  }

  let failure: Error | undefined;
  const working = work().catch((error: unknown) => {
    failure = error instanceof Error ? error : new Error(String(error));
  });
  return {
    seen,
    async stop() {
      stopping.abort();
      await working;
      if (failure) throw failure;
    },
  };
}

function unless(expected: number): (error: Error & { code?: number }) => void {
  return (error) => {
    if (error.code !== expected) throw error;
  };
}
