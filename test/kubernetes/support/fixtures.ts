import { randomUUID } from 'node:crypto';
import { ApplicationFailure } from '@temporalio/common';
import { MockActivityEnvironment } from '@temporalio/testing';
import { DefaultLogger } from '@temporalio/worker';
import assert from 'node:assert/strict';
import type { FailureType, PoolRef, TargetPlan } from '../../../activities/types.js';
import type { DataVolume } from '../../../activities/kubernetes/objects.js';
import type { Kubernetes } from '../../../activities/kubernetes/client.js';
import { dataVolumePath } from '../../../activities/kubernetes/data-volumes.js';

/** Which attempt of which step an activity runs as, and what the one before has beaten. */
export interface ActedAs {
  readonly workflowId?: string;
  readonly runId?: string;
  readonly activityId?: string;
  readonly attempt?: number;
  readonly heartbeatDetails?: unknown;
}

/** Runs an activity as the first step of workflow `workflowId`; its repetition has the same ids and another attempt. */
export async function act<A extends unknown[], R>(
  activity: (...args: A) => Promise<R>,
  args: A,
  {
    workflowId = 'workflow-1',
    runId = 'run-1',
    activityId = '1',
    attempt = 1,
    heartbeatDetails,
  }: ActedAs = {},
): Promise<R> {
  const environment = new MockActivityEnvironment(
    { workflowExecution: { workflowId, runId }, activityId, attempt, heartbeatDetails },
    { logger: new DefaultLogger('ERROR') },
  );
  return await environment.run<A, R, (...args: A) => Promise<R>>(activity, ...args);
}

/** Asserts type, retryability and message of a failure. */
export async function rejects(
  promise: Promise<unknown>,
  type: FailureType,
  message?: RegExp,
  retryable = false,
): Promise<void> {
  await assert.rejects(promise, (error: unknown) => {
    assert.ok(error instanceof ApplicationFailure, String(error));
    assert.equal(error.type, type, error.message);
    assert.equal(error.nonRetryable, !retryable);
    if (message) assert.match(error.message, message);
    return true;
  });
}

/** As {@link rejects}, for failures that are tried again. */
export async function rejectsForNow(
  promise: Promise<unknown>,
  type: FailureType,
  message?: RegExp,
): Promise<void> {
  await rejects(promise, type, message, true);
}

/** A namespace of its own. */
export async function makeNamespace({ core }: Kubernetes): Promise<string> {
  const name = `t-${randomUUID().slice(0, 8)}`;
  await core.createNamespace({ body: { metadata: { name } } });
  return name;
}

/** Deletes volumes by their labels; one that was on its way out may be gone. */
export async function deleteVolumes({ core }: Kubernetes, labelSelector: string): Promise<void> {
  const { items } = await core.listPersistentVolume({ labelSelector });
  for (const { metadata } of items)
    await core.deletePersistentVolume({ name: metadata!.name! }).catch((error: { code?: number }) => {
      if (error.code !== 404) throw error;
    });
}

/** A manifest of an import; `spec` is merged in. */
export function manifest(
  namespace: string,
  name: string,
  spec: Record<string, unknown> = {},
  annotations: Record<string, string> = {},
): {
  metadata: { namespace: string; name: string; annotations: Record<string, string> };
  spec: Record<string, unknown>;
} {
  return {
    metadata: { namespace, name, annotations },
    spec: {
      source: { http: { url: 'http://images.example/disk.qcow2' } },
      storage: { resources: { requests: { storage: '1Gi' } }, storageClassName: 'hostpath-provisioner' },
      ...spec,
    },
  };
}

/** Creates a DataVolume as an administrator does. */
export async function createDataVolume(
  { custom }: Kubernetes,
  { metadata, spec }: ReturnType<typeof manifest>,
): Promise<DataVolume> {
  const body = { apiVersion: 'cdi.kubevirt.io/v1beta1', kind: 'DataVolume', metadata, spec };
  return (await custom.createNamespacedCustomObject({
    ...dataVolumePath(metadata.namespace),
    body,
  })) as DataVolume;
}

/** The DataVolume as it is now. */
export async function getDataVolume(
  { custom }: Kubernetes,
  namespace: string,
  name: string,
): Promise<DataVolume> {
  return (await custom.getNamespacedCustomObject({ ...dataVolumePath(namespace), name })) as DataVolume;
}

/** Identity of a DataVolume. */
export function refOf({ metadata: { namespace, name, uid } }: DataVolume): {
  namespace: string;
  name: string;
  uid: string;
} {
  return { namespace, name, uid };
}

/** Status as somebody else wrote it. */
export async function setStatus(
  { custom }: Kubernetes,
  namespace: string,
  name: string,
  status: object,
): Promise<void> {
  const found = await getDataVolume({ custom } as Kubernetes, namespace, name);
  await custom.replaceNamespacedCustomObjectStatus({
    ...dataVolumePath(namespace),
    name,
    body: { ...found, status },
  });
}

/** Pool of the tests' HostPathProvisioner. */
export const POOL: PoolRef = { name: 'legacy', path: '/var/hpvolumes', useNamingPrefix: false };

/** Plan of a 1 GiB claim of the hostpath class. */
export const TARGET: TargetPlan = {
  claim: 'create',
  storageClass: 'hostpath-provisioner',
  provisioner: 'kubevirt.io/hostpath-provisioner',
  bindingMode: 'WaitForFirstConsumer',
  reclaimPolicy: 'Delete',
  waitForConsumer: false,
  accessModes: ['ReadWriteOnce'],
  volumeMode: 'Filesystem',
  requestBytes: 1_138_166_334,
  usableBytes: 1_073_741_824,
  overhead: 0.06,
  api: 'storage',
  pool: POOL,
  preallocation: false,
};

/** Without the classes of the Kubernetes client, for comparison. */
export function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}

/** A second HostPathProvisioner, of {@link POOL}, once a control plane. */
export async function ensurePool({ custom }: Kubernetes): Promise<void> {
  const path = {
    group: 'hostpathprovisioner.kubevirt.io',
    version: 'v1beta1',
    plural: 'hostpathprovisioners',
  };
  const body = {
    apiVersion: 'hostpathprovisioner.kubevirt.io/v1beta1',
    kind: 'HostPathProvisioner',
    metadata: { name: 'tests' },
    spec: { pathConfig: { path: `${POOL.path}/`, useNamingPrefix: String(POOL.useNamingPrefix) } },
  };
  await custom.createClusterCustomObject({ ...path, body }).catch((error: unknown) => {
    if ((error as { code?: number }).code !== 409) throw error;
  });
}
