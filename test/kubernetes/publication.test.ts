import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Context } from '@temporalio/activity';
import { WorkflowFailedError } from '@temporalio/client';
import {
  DefaultLogger,
  NativeConnection,
  Worker,
  type WorkflowBundleWithSourceMap,
} from '@temporalio/worker';
import { permanentFailure } from '../../activities/failures.js';
import type { Kubernetes } from '../../activities/kubernetes/client.js';
import { createKubernetesActivities } from '../../activities/kubernetes/index.js';
import type { ControlActivities } from '../../activities/interfaces.js';
import { createNodeActivities } from '../../activities/node/index.js';
import type { ClaimRef } from '../../activities/types.js';
import type { ProvisionResult } from '../../activities/types/provision.js';
import { bundleWorkflows } from '../../workers/workflow-code.js';
import { CONTROL_QUEUE, nodeQueue, provisionWorkflowId } from '../../workflows/task-queues.js';
import { useControlPlane } from './support/control-plane.js';
import { makeNamespace } from './support/fixtures.js';

const NODE = 'publishing';
const CLASS = 'publishing';

describe('a publication that is interrupted when the claim is Bound', function () {
  this.timeout(60_000);
  const plane = useControlPlane();
  let admin: Kubernetes;
  let namespace: string;
  let workflowBundle: WorkflowBundleWithSourceMap;
  let connection: NativeConnection;

  before(async function () {
    this.timeout(120_000);
    admin = plane().admin;
    const workflowsPath = fileURLToPath(new URL('../../workflows/index.ts', import.meta.url));
    workflowBundle = await bundleWorkflows({ workflowsPath, logger: new DefaultLogger('ERROR') });
    connection = await NativeConnection.connect({ address: plane().info.temporalAddress });
    await admin.core.createNode({
      body: { metadata: { name: NODE, labels: { 'kubernetes.io/hostname': NODE } } },
    });
    await admin.storage.createStorageClass({
      body: {
        metadata: { name: CLASS },
        provisioner: 'kubevirt.io/hostpath-provisioner',
        volumeBindingMode: 'Immediate',
        reclaimPolicy: 'Retain',
      },
    });
  });
  after(async () => {
    await connection.close();
    await plane().kubectl('delete', 'storageclass', CLASS);
    await plane().kubectl('delete', 'node', NODE);
  });
  beforeEach(async () => {
    // it has no kubelet: a node of which nothing is heard for most of a minute is not Ready any more
    const condition = { type: 'Ready', status: 'True', lastHeartbeatTime: new Date().toISOString() };
    await plane().kubectl(
      ...['patch', 'node', NODE, '--subresource=status', '--type=merge', '-p'],
      JSON.stringify({ status: { conditions: [condition] } }),
    );
    namespace = await makeNamespace(admin);
  });

  async function makeClaim(): Promise<ClaimRef> {
    const name = `data-${randomUUID().slice(0, 8)}`;
    const { metadata } = await admin.core.createNamespacedPersistentVolumeClaim({
      namespace,
      body: {
        metadata: { name, annotations: { 'kubevirt.io/provisionOnNode': NODE } },
        spec: {
          accessModes: ['ReadWriteOnce'],
          storageClassName: CLASS,
          resources: { requests: { storage: '1Mi' } },
        },
      },
    });
    return { namespace, name, uid: metadata?.uid ?? '' };
  }

  const directoryOf = ({ uid }: ClaimRef) => join(plane().info.pool, `pvc-${uid}`);
  const markerOf = ({ uid }: ClaimRef) => join(plane().info.pool, '.dvflow', uid, 'unpublished.json');
  const activities = (): ControlActivities =>
    createKubernetesActivities({
      kubeConfig: plane().control,
      temporal: plane().temporal,
      temporalNamespace: 'default',
      namespaces: { transfers: 'dvflow-transfers' },
      policy: { allowed: [], denied: [], unrestricted: true },
    });

  /** Provisions the claim; `interrupt` is what becomes of the first publication, whose claim is Bound and in use by then. */
  async function provision(
    claim: ClaimRef,
    interrupt: (workflowId: string) => Promise<never>,
    more: Partial<ControlActivities> = {},
  ): Promise<ProvisionResult> {
    const control = activities();
    let published = 0;
    const publishVolume: ControlActivities['publishVolume'] = async (input) => {
      const answer = await control.publishVolume(input);
      if (published++ > 0) return answer;
      await writeFile(join(directoryOf(claim), 'users.data'), 'data');
      return await interrupt(workflowId);
    };
    const workflowId = provisionWorkflowId(claim);
    const asking = await Worker.create({
      connection,
      taskQueue: CONTROL_QUEUE,
      workflowBundle,
      activities: { ...control, publishVolume, ...more },
    });
    const node = await Worker.create({
      connection,
      taskQueue: nodeQueue(NODE),
      activities: createNodeActivities({ node: NODE }),
    });
    return await node.runUntil(
      asking.runUntil(
        plane().temporal.workflow.execute('provisionVolume', {
          workflowId,
          taskQueue: CONTROL_QUEUE,
          args: [claim],
        }) as Promise<ProvisionResult>,
      ),
    );
  }

  const refused = (): Promise<never> =>
    Promise.reject(permanentFailure('NotAuthorized', 'a policy of the cluster refuses the last change'));

  it('goes on to the end, whatever the volume was refused', async () => {
    const claim = await makeClaim();
    const result = await provision(claim, refused);
    assert.deepEqual(result, { provisioned: true, volume: `pvc-${claim.uid}`, node: NODE });
    assert.ok(existsSync(join(directoryOf(claim), 'users.data')), 'the data is there');
    assert.ok(!existsSync(markerOf(claim)), 'the directory is published');
    const { metadata } = await admin.core.readPersistentVolume({ name: `pvc-${claim.uid}` });
    assert.equal(metadata?.labels?.['dvflow.io/unpublished'], undefined);
  });

  it('goes on to the end when the run is cancelled, since the volume is its user’s', async () => {
    const claim = await makeClaim();
    const result = await provision(claim, async (workflowId) => {
      await plane().temporal.workflow.getHandle(workflowId).cancel();
      const context = Context.current();
      const beats = setInterval(() => context.heartbeat(), 200);
      return await context.cancelled.finally(() => clearInterval(beats));
    });
    assert.equal(result.provisioned, true);
    assert.ok(existsSync(join(directoryOf(claim), 'users.data')), 'the data is there');
  });

  it('removes nothing where nobody can say whether the claim is Bound', async () => {
    const claim = await makeClaim();
    const deleteUnpublishedVolume = (): Promise<never> =>
      Promise.reject(permanentFailure('NotAuthorized', 'no reading either'));
    await assert.rejects(
      provision(claim, refused, { deleteUnpublishedVolume }),
      (error) =>
        error instanceof WorkflowFailedError && /a policy of the cluster/.test(String(error.cause?.cause)),
    );
    assert.ok(existsSync(join(directoryOf(claim), 'users.data')), 'the data is there');
    assert.ok(existsSync(markerOf(claim)), 'and the sweeper finds it');
  });
});
