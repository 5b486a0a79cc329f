/** Plain claims as users make them, and what becomes of them. */
import type { V1PersistentVolume, V1PersistentVolumeClaim, V1StorageClass } from '@kubernetes/client-node';
import { StorageV1Api } from '@kubernetes/client-node';
import type { TestStack } from '../support/stack.js';
import { eventually, type World } from './world.js';

export const HOSTPATH = 'kubevirt.io/hostpath-provisioner';
export const HOSTPATH_CSI = 'kubevirt.io.hostpath-provisioner';
export const SELECTED_NODE = 'volume.kubernetes.io/selected-node';

/** A claim, by identity. */
export interface Claim {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

/** What a claim asks for. */
export interface Asked {
  /** @default 'plain-immediate' */
  readonly storageClassName?: string;
  readonly annotations?: Record<string, string>;
  /** @default '8Mi' */
  readonly storage?: string;
  readonly spec?: V1PersistentVolumeClaim['spec'];
}

/** What a test of plain claims does in one namespace. */
export function createPlainClaims(stack: TestStack, world: World, namespaceOf: () => string) {
  const storage = () => stack.kubeConfig.makeApiClient(StorageV1Api);

  /** A class of this name, once a stack: parameters and modes of a class cannot change. */
  async function ensureClass(name: string, more: Partial<V1StorageClass> = {}): Promise<void> {
    const body = { metadata: { name }, provisioner: HOSTPATH, volumeBindingMode: 'Immediate', ...more };
    await storage()
      .createStorageClass({ body })
      .catch((error: { code?: number }) => {
        if (error.code !== 409) throw error;
      });
  }

  async function create(name: string, asked: Asked = {}): Promise<Claim> {
    const namespace = namespaceOf();
    const { storageClassName = 'plain-immediate', annotations = {}, storage = '8Mi', spec = {} } = asked;
    const made = await world.core.createNamespacedPersistentVolumeClaim({
      namespace,
      body: {
        metadata: { name, annotations },
        spec: {
          accessModes: ['ReadWriteOnce'],
          storageClassName,
          resources: { requests: { storage } },
          ...spec,
        },
      },
    });
    return { namespace, name, uid: made.metadata!.uid! };
  }

  async function remove({ namespace, name }: Claim): Promise<void> {
    await world.core.deleteNamespacedPersistentVolumeClaim({ namespace, name });
  }

  /** The claim's volume, once it is Bound. */
  async function awaitBound({ namespace, name }: Claim, timeoutMs = 30_000): Promise<V1PersistentVolume> {
    return await eventually(`claim ${name} is Bound`, timeoutMs, async () => {
      const claim = await world.claim(namespace, name);
      if (claim?.status?.phase !== 'Bound') return undefined;
      return await world.core.readPersistentVolume({ name: claim.spec!.volumeName! });
    });
  }

  /** An event about an object; volumes have theirs in `default`. */
  async function awaitEvent(
    { name, namespace }: { name: string; namespace?: string },
    reason: string,
    message: RegExp,
    timeoutMs = 30_000,
  ) {
    return await eventually(`event ${reason} ${message} on ${name}`, timeoutMs, async () =>
      (await world.events(namespace ?? 'default', name)).find(
        (event) => event.reason === reason && message.test(event.message),
      ),
    );
  }

  /** Waits until the workflow has ended. */
  async function awaitClosed(workflowId: string, timeoutMs = 30_000) {
    return await eventually(`${workflowId} has ended`, timeoutMs, async () => {
      const { status } = await stack.temporal.workflow.getHandle(workflowId).describe();
      return status.name === 'RUNNING' ? undefined : status.name;
    });
  }

  async function createPod(name: string, claimName: string): Promise<void> {
    await world.core.createNamespacedPod({
      namespace: namespaceOf(),
      body: {
        metadata: { name },
        spec: {
          containers: [{ name: 'user', image: 'none', volumeMounts: [{ name: 'data', mountPath: '/data' }] }],
          volumes: [{ name: 'data', persistentVolumeClaim: { claimName } }],
        },
      },
    });
  }

  async function removePod(name: string): Promise<void> {
    await world.core.deleteNamespacedPod({ namespace: namespaceOf(), name, gracePeriodSeconds: 0 });
  }

  /** What the volume object holds, as long as it is there. */
  async function volume(name: string): Promise<V1PersistentVolume | undefined> {
    return await world.core.readPersistentVolume({ name }).catch((error: { code?: number }) => {
      if (error.code === 404) return undefined;
      throw error;
    });
  }

  async function awaitNoVolume(name: string, timeoutMs = 30_000): Promise<void> {
    await eventually(`volume ${name} is gone`, timeoutMs, async () =>
      (await volume(name)) === undefined ? true : undefined,
    );
  }

  return {
    ensureClass,
    create,
    remove,
    awaitBound,
    awaitEvent,
    awaitClosed,
    createPod,
    removePod,
    volume,
    awaitNoVolume,
  };
}

export type PlainClaims = ReturnType<typeof createPlainClaims>;
