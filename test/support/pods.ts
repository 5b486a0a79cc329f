/** Pods on the real nodes of a stack: `useStack({ nodes: 2 })`. */
import { setTimeout as pause } from 'node:timers/promises';
import { CoreV1Api, type V1Pod, type V1PodSecurityContext } from '@kubernetes/client-node';
import { BUSYBOX_IMAGE } from '../../local/index.js';
import type { TestStack } from './stack.js';

/** What KubeVirt's qemu is: not root, uid 107, and no fsGroup, which hostPath volumes do not know. */
export const QEMU: V1PodSecurityContext = { runAsNonRoot: true, runAsUser: 107, runAsGroup: 107 };

/** A pod that a test asks for. */
export interface PodOptions {
  readonly namespace: string;
  readonly name: string;
  /** Shell commands; the pod runs until they end. */
  readonly script: string;
  /** Claims by the path at which they are mounted; a Block claim is a device at that path. */
  readonly claims?: Readonly<Record<string, { readonly claim: string; readonly block?: boolean }>>;
  /** Restricts the choice of the scheduler to one node. */
  readonly node?: string;
  /** @default {@link QEMU} */
  readonly securityContext?: V1PodSecurityContext;
}

/** Manifest of a pod with busybox. */
export function podManifest(options: PodOptions): V1Pod {
  const { namespace, name, script, claims = {}, node, securityContext = QEMU } = options;
  const volumes = Object.entries(claims).map(([path, { claim, block = false }]) => ({ path, claim, block }));
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace, name },
    spec: {
      restartPolicy: 'Never',
      terminationGracePeriodSeconds: 1,
      securityContext,
      ...(node === undefined ? {} : { nodeSelector: { 'kubernetes.io/hostname': node } }),
      containers: [
        {
          name: 'main',
          image: BUSYBOX_IMAGE,
          imagePullPolicy: 'Never',
          command: ['/bin/sh', '-ec', script],
          volumeMounts: volumes
            .filter(({ block }) => !block)
            .map(({ claim, path }) => ({ name: claim, mountPath: path })),
          volumeDevices: volumes
            .filter(({ block }) => block)
            .map(({ claim, path }) => ({ name: claim, devicePath: path })),
        },
      ],
      volumes: volumes.map(({ claim }) => ({ name: claim, persistentVolumeClaim: { claimName: claim } })),
    },
  };
}

/** What tests do with pods. */
export function createPods(stack: TestStack) {
  const core = stack.kubeConfig.makeApiClient(CoreV1Api);

  async function create(options: PodOptions): Promise<void> {
    await core.createNamespacedPod({ namespace: options.namespace, body: podManifest(options) });
  }

  async function read(namespace: string, name: string): Promise<V1Pod> {
    return await core.readNamespacedPod({ namespace, name });
  }

  /** Waits until the pod has a phase. @throws with the pod's own reasons when it ends in another one, or the time is over */
  async function awaitPhase(
    { namespace, name }: { readonly namespace: string; readonly name: string },
    phase: 'Running' | 'Succeeded' | 'Failed',
    timeoutMs = 60_000,
  ): Promise<V1Pod> {
    const end = Date.now() + timeoutMs;
    for (;;) {
      const pod = await read(namespace, name);
      const found = pod.status?.phase ?? '';
      if (found === phase) return pod;
      if (Date.now() > end || ['Succeeded', 'Failed'].includes(found)) {
        throw new Error(`pod ${namespace}/${name} is ${found}, not ${phase}: ${await reasons(pod)}`);
      }
      await pause(200);
    }
  }

  async function reasons({ metadata, status }: V1Pod): Promise<string> {
    const { namespace = '', name = '' } = metadata ?? {};
    const fieldSelector = `involvedObject.name=${name}`;
    const { items } = await core.listNamespacedEvent({ namespace, fieldSelector });
    const log = await logs(namespace, name).catch(() => '');
    const events = items.map(({ reason, message }) => `${reason}: ${message}`);
    return JSON.stringify({ conditions: status?.conditions, states: status?.containerStatuses, events, log });
  }

  /** Runs a pod to its end and returns what it wrote. @throws when it fails */
  async function run(options: PodOptions, timeoutMs?: number): Promise<{ node: string; output: string }> {
    await create(options);
    const pod = await awaitPhase(options, 'Succeeded', timeoutMs);
    return { node: pod.spec?.nodeName ?? '', output: await logs(options.namespace, options.name) };
  }

  async function logs(namespace: string, name: string): Promise<string> {
    return await core.readNamespacedPodLog({ namespace, name });
  }

  /** Removes a pod at once and waits until its node has seen to it. */
  async function remove(namespace: string, name: string): Promise<void> {
    await stack.kubectl(['delete', 'pod', '-n', namespace, name, '--ignore-not-found', '--timeout=60s']);
  }

  return { create, read, awaitPhase, run, logs, remove };
}

export type Pods = ReturnType<typeof createPods>;
