/** HostPathProvisioners and nodes as live tests see them. A node of a test has a real worker, in this process. */
import assert from 'node:assert/strict';
import { CoreV1Api, CustomObjectsApi } from '@kubernetes/client-node';
import { NativeConnection, Worker } from '@temporalio/worker';
import { MERGE_PATCH } from '../../activities/kubernetes/client.js';
import { createNodeActivities } from '../../activities/node/index.js';
import type { WatchedProvisioner } from '../../activities/kubernetes/preparation/objects.js';
import type { NodeStatus } from '../../activities/types/preparation.js';
import { nodeQueue, prepareStorageWorkflowId } from '../../workflows/task-queues.js';
import type { TestStack } from '../support/stack.js';
import { eventually } from './world.js';

const PLURAL = {
  group: 'hostpathprovisioner.kubevirt.io',
  version: 'v1beta1',
  plural: 'hostpathprovisioners',
} as const;

/** Keeps a node of a test out of the stack's own HostPathProvisioner, which has no tolerations. */
export const TAINT = { key: 'dvflow-test', value: 'preparing', effect: 'NoSchedule' };
/** For those that are to have it. */
export const TOLERATIONS = [{ key: TAINT.key, operator: 'Exists' }];

type Provisioner = WatchedProvisioner & {
  status?: { nodes?: readonly NodeStatus[]; storagePoolStatuses?: readonly object[] };
};

export type PreparationWorld = ReturnType<typeof createPreparationWorld>;

/** What a live test does to HostPathProvisioners, and what it sees of them. */
export function createPreparationWorld(stack: TestStack) {
  const core = stack.kubeConfig.makeApiClient(CoreV1Api);
  const custom = stack.kubeConfig.makeApiClient(CustomObjectsApi);
  const cleanUps: (() => Promise<unknown>)[] = [];

  /** Names come after `hostpath-provisioner`, whose pool other suites use meanwhile. */
  async function create(
    name: string,
    spec: object,
    annotations: Record<string, string> = {},
  ): Promise<string> {
    const made = (await custom.createClusterCustomObject({
      ...PLURAL,
      body: manifestOf(name, spec, annotations),
    })) as Provisioner;
    cleanUps.push(() => remove(name));
    return prepareStorageWorkflowId(made.metadata);
  }

  async function get(name: string): Promise<Provisioner> {
    return (await custom.getClusterCustomObject({ ...PLURAL, name })) as Provisioner;
  }

  async function patch(name: string, body: object): Promise<void> {
    await custom.patchClusterCustomObject({ ...PLURAL, name, body }, MERGE_PATCH);
  }

  async function remove(name: string): Promise<void> {
    await custom.deleteClusterCustomObject({ ...PLURAL, name }).catch((error: { code?: number }) => {
      if (error.code !== 404) throw error;
    });
  }

  /** The object, once a condition of its present generation is like this. */
  async function awaitCondition(
    name: string,
    type: string,
    status: string,
    reason?: string,
    timeoutMs = 60_000,
  ): Promise<Provisioner> {
    let last: Provisioner | undefined;
    return await eventually(`${type} ${status} ${reason ?? ''} of ${name}`, timeoutMs, async () => {
      last = await get(name);
      if (last.status?.observedGeneration !== last.metadata.generation) return undefined;
      const found = conditionOf(last, type);
      return found?.status === status && (reason ?? found.reason) === found.reason ? last : undefined;
    }).catch((error: Error) => assert.fail(`${error.message}; last: ${JSON.stringify(last?.status)}`));
  }

  /** A Ready node that only HostPathProvisioners with {@link TOLERATIONS} choose; it goes with the test. */
  async function addNode(name: string, labels: Record<string, string>): Promise<void> {
    await core.createNode({
      body: {
        metadata: { name, labels: { 'kubernetes.io/hostname': name, ...labels } },
        spec: { taints: [TAINT] },
      },
    });
    cleanUps.push(() => core.deleteNode({ name }).catch(() => undefined));
    const now = new Date().toISOString();
    const condition = {
      type: 'Ready',
      status: 'True',
      lastHeartbeatTime: now,
      lastTransitionTime: now,
      reason: 'test',
      message: '',
    };
    await core.patchNodeStatus({ name, body: { status: { conditions: [condition] } } }, MERGE_PATCH);
  }

  /** A worker of a node, in this process, whose kernel shows SELinux in `selinuxfs`. */
  async function startWorker(node: string, selinuxfs: string): Promise<{ stop(): Promise<void> }> {
    const connection = await NativeConnection.connect({ address: stack.info.temporalAddress });
    const activities = createNodeActivities({ node, selinuxfs });
    const worker = await Worker.create({ connection, taskQueue: nodeQueue(node), activities });
    const running = worker.run();
    const stop = async (): Promise<void> => {
      if (worker.getState() === 'RUNNING') worker.shutdown();
      await running;
      await connection.close();
    };
    let stopped: Promise<void> | undefined;
    cleanUps.push(() => (stopped ??= stop()));
    return { stop: () => (stopped ??= stop()) };
  }

  async function events(name: string): Promise<readonly string[]> {
    const { items } = await core.listNamespacedEvent({
      namespace: 'default',
      fieldSelector: `involvedObject.name=${name}`,
    });
    return items.map(({ type, reason, message }) => `${type} ${reason}: ${message}`);
  }

  async function cleanUp(): Promise<void> {
    for (const undo of cleanUps.splice(0).reverse()) await undo();
  }

  return { core, create, get, patch, remove, awaitCondition, addNode, startWorker, events, cleanUp };
}

/** A manifest as the documents print one. */
export function manifestOf(name: string, spec: object, annotations: Record<string, string> = {}) {
  return {
    apiVersion: 'hostpathprovisioner.kubevirt.io/v1beta1',
    kind: 'HostPathProvisioner',
    metadata: { name, annotations },
    spec: { imagePullPolicy: 'IfNotPresent', ...spec },
  };
}

/** One condition. */
export function conditionOf({ status }: WatchedProvisioner, type: string) {
  return status?.conditions?.find((condition) => condition.type === type);
}
