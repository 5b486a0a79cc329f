/** A namespace with machines in it, served by what KubeVirt's controller does, and what its tests ask. */
import { type V1Pod, type V1PersistentVolumeClaim, type V1OwnerReference } from '@kubernetes/client-node';
import { virtualMachineDefinition } from '../support/kubevirt/definitions.js';
import {
  createVirtAccount,
  EPHEMERAL,
  startVirtController,
  type VirtController,
} from '../support/kubevirt/virt-controller.js';
import type { TestStack } from '../support/stack.js';
import { createWorld, eventually, type World } from './world.js';

/** Machines of one namespace. */
export interface MachinesScene {
  readonly world: World;
  readonly namespace: string;
  readonly controller: VirtController;
  /** Every state of each claim of the namespace since the beginning, oldest first. */
  readonly claims: readonly V1PersistentVolumeClaim[];
  /** Waits until the controller has said this of a machine; resolves with all that it said of it. */
  said(machine: string, what: string, timeoutMs?: number): Promise<readonly string[]>;
  /** Pods as they were made, oldest first. */
  readonly pods: readonly { readonly name: string; readonly ephemeral: boolean }[];
}

/** Serves VirtualMachines to a suite. Called in the body of `describe`; its members are there once a `before` hook has run. */
export function useMachines(stack: TestStack): () => MachinesScene {
  let scene: MachinesScene | undefined;
  const ends: (() => unknown)[] = [];

  before('serve VirtualMachines, with the definition of KubeVirt', async () => {
    await serveMachines(stack);
    const world = createWorld(stack);
    const namespace = await world.createNamespace('machines');
    const [claims, pods]: [V1PersistentVolumeClaim[], { name: string; ephemeral: boolean }[]] = [[], []];
    const watches = await Promise.all([
      stack.watch(`/api/v1/namespaces/${namespace}/persistentvolumeclaims`, (type, claim) => {
        if (type !== 'DELETED') claims.push(claim as V1PersistentVolumeClaim);
      }),
      stack.watch(`/api/v1/namespaces/${namespace}/pods`, (type, pod) => {
        const { metadata } = pod as V1Pod;
        const ephemeral = metadata?.annotations?.[EPHEMERAL] !== undefined;
        if (type === 'ADDED') pods.push({ name: metadata?.name ?? '', ephemeral });
      }),
    ]);
    const controller = startVirtController(await createVirtAccount(stack, namespace), namespace);
    ends.push(...watches.map((watch) => () => watch.stop()), () => controller.stop());
    const said: MachinesScene['said'] = async (machine, what, timeoutMs = 60_000) => {
      const of = (): readonly string[] =>
        controller.seen
          .filter((line) => line.startsWith(`${machine}: `))
          .map((line) => line.slice(machine.length + 2));
      return await eventually(`${machine} ${what}`, timeoutMs, async () =>
        of().at(-1) === what ? of() : undefined,
      ).catch((error: Error) => {
        throw new Error(`${error.message}: ${of().join(', ')}`);
      });
    };
    scene = { world, namespace, controller, claims, pods, said };
  });

  after('end the controller, and take the definition away', async () => {
    for (const end of ends) await end();
    await stack.kubectl(['delete', 'crd', 'virtualmachines.kubevirt.io', '--ignore-not-found']);
    if (!scene) return;
    const role = `kubevirt-controller-${scene.namespace}`;
    await stack.kubectl(['delete', 'clusterrole,clusterrolebinding', role, '--ignore-not-found']);
    await scene.world.core.deleteNamespace({ name: scene.namespace });
  });

  return () => {
    if (!scene) throw new Error('machines are used outside of hooks and tests');
    return scene;
  };
}

async function serveMachines(stack: TestStack): Promise<void> {
  await stack.kubectl(['create', '-f', '-'], { input: JSON.stringify(await virtualMachineDefinition()) });
  // `kubectl wait` gives up on a definition that has no conditions yet
  await eventually('virtualmachines are served', 30_000, async () =>
    stack.kubectl(['get', 'virtualmachines.kubevirt.io', '-A']).then(
      () => true,
      () => undefined,
    ),
  );
}

/** The ownerReference that a claim has of its DataVolume, from the first moment on. */
export function claimOwner(dataVolume: { name: string; uid: string }): V1OwnerReference {
  return {
    apiVersion: 'cdi.kubevirt.io/v1beta1',
    kind: 'DataVolume',
    name: dataVolume.name,
    uid: dataVolume.uid,
    controller: true,
    blockOwnerDeletion: true,
  };
}
