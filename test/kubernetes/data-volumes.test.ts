import assert from 'node:assert/strict';
import { createKubernetes } from '../../activities/kubernetes/client.js';
import type { Kubernetes } from '../../activities/kubernetes/client.js';
import { createDataVolumeActivities, dataVolumePath } from '../../activities/kubernetes/data-volumes.js';
import { createExecutionObserver, type ExecutionObserver } from '../../activities/kubernetes/executions.js';
import { createStatusActivities } from '../../activities/kubernetes/status.js';
import type { DataVolumeStart, StatusUpdate } from '../../activities/types.js';
import { dataVolumeWorkflowId } from '../../workflows/task-queues.js';
import { useControlPlane } from './support/control-plane.js';
import {
  act,
  createDataVolume,
  getDataVolume,
  makeNamespace,
  manifest,
  refOf,
  rejects,
  rejectsForNow,
  setStatus,
} from './support/fixtures.js';

describe('DataVolumes on a real API server', function () {
  this.timeout(30_000);
  const plane = useControlPlane();
  let admin: Kubernetes;
  let kubernetes: Kubernetes;
  let namespace: string;
  let executions: ExecutionObserver;
  let openDataVolume: ReturnType<typeof createDataVolumeActivities>['openDataVolume'];
  let recordStatus: ReturnType<typeof createStatusActivities>['recordStatus'];

  before(() => {
    admin = plane().admin;
    kubernetes = createKubernetes(plane().control);
    executions = createExecutionObserver(plane().temporal);
    openDataVolume = createDataVolumeActivities({
      kubernetes,
      executions,
      temporalNamespace: 'default',
    }).openDataVolume;
    recordStatus = createStatusActivities({ kubernetes }).recordStatus;
  });
  beforeEach(async () => {
    namespace = await makeNamespace(admin);
  });
  const create = async (name = 'vm1', spec = {}, annotations = {}) =>
    refOf(await createDataVolume(admin, manifest(namespace, name, spec, annotations)));
  /** As a run that the watch started. */
  const openStarted = async (start: DataVolumeStart, run: { runId?: string; attempt?: number } = {}) =>
    await act(openDataVolume, [{ start }], { workflowId: dataVolumeWorkflowId(start), ...run });
  const record = async (
    update: StatusUpdate,
    run: { workflowId?: string; attempt?: number; activityId?: string } = {},
  ) => await act(recordStatus, [update], { workflowId: dataVolumeWorkflowId(update.dataVolume), ...run });
  const read = async (name = 'vm1') => await getDataVolume(admin, namespace, name);
  const annotate = async (name: string, annotation: string) =>
    await plane().kubectl('annotate', '--overwrite', 'dv', '-n', namespace, name, annotation);

  describe('openDataVolume from a start', () => {
    it('reads the facts and says that no populator is in use', async () => {
      const source = { http: { url: 'https://user:secret@images.example/a/disk.qcow2?token=x#y' } };
      const start = await create('vm1', { source }, { 'dvflow.io/deadline': '1h30m' });
      const facts = await openStarted(start);
      assert.deepEqual(facts, {
        ...start,
        source: 'http',
        displayUrl: 'https://images.example/a/disk.qcow2',
        contentType: 'kubevirt',
        phase: '',
        deadlineMs: 5_400_000,
      });
      assert.deepEqual(await openStarted(start, { attempt: 2 }), facts);
      assert.equal((await read()).metadata.annotations?.['cdi.kubevirt.io/storage.usePopulator'], 'false');
    });

    it('says that a DataVolume is gone, also when there is another of its name', async () => {
      const start = await create();
      await plane().kubectl('delete', 'dv', '-n', namespace, 'vm1');
      await rejects(openStarted(start), 'InvalidDataVolume', /vm1 \([0-9a-f-]+\) is gone/);
      await create();
      await rejects(openStarted(start), 'InvalidDataVolume', /is gone/);
    });

    for (const [kind, url] of Object.entries({
      s3: 'https://s3.example/b/k',
      gcs: 'gs://bucket/key',
      registry: 'docker://quay.example/image',
    })) {
      it(`opens source ${kind}`, async () => {
        const { source, displayUrl } = await openStarted(
          await create('vm1', { source: { [kind]: { url } } }),
        );
        assert.deepEqual({ source, displayUrl }, { source: kind, displayUrl: url });
      });
    }

    for (const [kind, source] of Object.entries({
      imageio: { url: 'https://ovirt.example', diskId: '1', secretRef: 's', certConfigMap: 'c' },
      vddk: { url: 'https://vc.example', uuid: 'u', backingFile: 'b', thumbprint: 't', secretRef: 's' },
    })) {
      it(`refuses source ${kind}`, async () => {
        const start = await create('vm1', { source: { [kind]: source } });
        await rejects(
          openStarted(start),
          'UnsupportedSource',
          new RegExp(`spec.source.${kind} .*use spec.source.http`),
        );
      });
    }

    it('refuses a start under another id than that of the workflow that serves the DataVolume', async () => {
      const start = await create();
      const served = dataVolumeWorkflowId(start);
      const refusal = new RegExp(`vm1 is served by workflow ${served}: .*dvflow retry vm1 -n ${namespace}$`);
      const copied = { workflowId: 'started-like-this-one' };
      await rejects(act(openDataVolume, [{ start }], copied), 'ResourceExists', refusal);
      const failed = { dataVolume: start, phase: 'Failed' } as const;
      assert.deepEqual(await record(failed, copied), { exists: true });
      assert.equal((await read()).status, undefined);
      assert.equal((await read()).metadata.annotations?.['cdi.kubevirt.io/storage.usePopulator'], undefined);
    });

    it('takes the id that the DataVolume is marked with, and still that of the watch, for a retry', async () => {
      const byHand = { workflowId: 'by-hand' };
      await act(openDataVolume, [{ manifest: manifest(namespace, 'vm1') }], byHand);
      const start = refOf(await read());
      await act(openDataVolume, [{ start }], byHand);
      await openStarted(start);
      await rejects(
        act(openDataVolume, [{ start }], { workflowId: 'other' }),
        'ResourceExists',
        /is served by workflow by-hand:/,
      );
      await record({ dataVolume: start, phase: 'ImportScheduled' }, byHand);
      assert.equal((await read()).status?.phase, 'ImportScheduled');
    });

    it('refuses a deadline that is no time', async () => {
      const start = await create('vm1', {}, { 'dvflow.io/deadline': 'soon' });
      await rejects(
        openStarted(start),
        'InvalidDataVolume',
        /dvflow.io\/deadline is "soon": write a time such as 90m/,
      );
    });
  });

  describe('openDataVolume with a retry', () => {
    it('answers once: writes the value, then resets the phase', async () => {
      const ref = await create();
      await setStatus(admin, namespace, 'vm1', { phase: 'Failed', progress: '12.00%' });
      await annotate('vm1', 'dvflow.io/retry=2');
      const facts = await openStarted({ ...ref, retry: '2' }, { runId: 'first' });
      assert.equal(facts.phase, 'Pending');
      assert.equal(facts.finished, undefined);
      const { metadata, status } = await read();
      assert.equal(metadata.annotations?.['dvflow.io/retried'], '2');
      assert.deepEqual(status, { phase: 'Pending', progress: 'N/A', restartCount: 0 });
    });

    it('goes on after it was killed between the two writes', async () => {
      const ref = await create();
      await setStatus(admin, namespace, 'vm1', { phase: 'Failed' });
      await openStarted({ ...ref, retry: '2' }, { runId: 'first' });
      // as the first attempt leaves it that dies before the second write
      await setStatus(admin, namespace, 'vm1', { phase: 'Failed' });
      const facts = await openStarted(
        { ...ref, retry: '2' },
        {
          runId: 'first',
          attempt: 2,
        },
      );
      assert.equal(facts.finished, undefined);
      assert.equal((await read()).status?.phase, 'Pending');
    });

    it('has nothing to do when an earlier run answered and failed again', async () => {
      const ref = await create();
      await setStatus(admin, namespace, 'vm1', { phase: 'Failed' });
      await openStarted({ ...ref, retry: '2' }, { runId: 'first' });
      await setStatus(admin, namespace, 'vm1', { phase: 'Failed' });
      const facts = await openStarted({ ...ref, retry: '2' }, { runId: 'second' });
      assert.equal(facts.finished, true);
      assert.equal((await read()).status?.phase, 'Failed');
    });

    it('never fills again what has succeeded', async () => {
      const ref = await create();
      await setStatus(admin, namespace, 'vm1', { phase: 'Succeeded' });
      const facts = await openStarted({ ...ref, retry: '2' });
      assert.equal(facts.finished, true);
      assert.equal((await read()).status?.phase, 'Succeeded');
      assert.equal((await read()).metadata.annotations?.['dvflow.io/retried'], '2');
    });
  });

  describe('openDataVolume from a manifest', () => {
    const own = { workflowId: 'start/by-hand' };

    it('creates it marked, as the user of this Temporal namespace, once', async () => {
      const facts = await act(openDataVolume, [{ manifest: manifest(namespace, 'vm1') }], own);
      const { metadata } = await read();
      assert.equal(facts.uid, metadata.uid);
      assert.deepEqual(metadata.annotations, {
        'cdi.kubevirt.io/storage.usePopulator': 'false',
        'dvflow.io/workflow-id': 'start/by-hand',
      });
      const again = await act(openDataVolume, [{ manifest: manifest(namespace, 'vm1') }], {
        ...own,
        attempt: 2,
      });
      assert.deepEqual(again, facts);
    });

    it('keeps owner and finalizers, and has other slips in the metadata refused', async () => {
      const { metadata: owner } = await admin.core.createNamespacedConfigMap({
        namespace,
        body: { metadata: { name: 'owner' } },
      });
      const ownerReferences = [{ apiVersion: 'v1', kind: 'ConfigMap', name: 'owner', uid: owner!.uid }];
      const given = manifest(namespace, 'vm1');
      const written = { ...given.metadata, ownerReferences, finalizers: ['example.com/hold'] };
      // as it is copied from another cluster
      const copied = { ...written, uid: 'x', resourceVersion: '1', creationTimestamp: null };
      await act(openDataVolume, [{ manifest: { ...given, metadata: copied } }], own);
      const made = await read();
      assert.deepEqual(made.metadata, { ...made.metadata, ownerReferences, finalizers: written.finalizers });
      await plane().kubectl(
        ...['patch', 'dv', 'vm1', '-n', namespace, '--type=merge', '-p', '{"metadata":{"finalizers":null}}'],
      );
      const slip = { ...given, metadata: { ...given.metadata, label: { a: 'b' } } };
      await rejects(act(openDataVolume, [{ manifest: slip }], own), 'InvalidDataVolume', /metadata.label/);
    });

    it('reads YAML as kubectl does', async () => {
      const text = `apiVersion: cdi.kubevirt.io/v1alpha1
kind: DataVolume
metadata: {name: vm1, namespace: ${namespace}}
spec:
  source: {http: {url: "http://images.example/disk.raw", insecureSkipVerify: yes}}
  pvc: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
`;
      await act(openDataVolume, [{ manifest: text }], own);
      assert.equal((await read()).spec.source?.http?.insecureSkipVerify, true);
    });

    it('refuses one of another workflow, of nobody, and one that failed before', async () => {
      await act(openDataVolume, [{ manifest: manifest(namespace, 'vm1') }], own);
      await create('vm2');
      await rejects(
        act(openDataVolume, [{ manifest: manifest(namespace, 'vm1') }]),
        'ResourceExists',
        /is not of this workflow/,
      );
      await rejects(
        act(openDataVolume, [{ manifest: manifest(namespace, 'vm2') }]),
        'ResourceExists',
        /is not of this workflow/,
      );
      await setStatus(admin, namespace, 'vm1', { phase: 'Failed' });
      await rejects(
        act(openDataVolume, [{ manifest: manifest(namespace, 'vm1') }], own),
        'ResourceExists',
        /is Failed since an earlier run/,
      );
      await setStatus(admin, namespace, 'vm1', { phase: 'Succeeded' });
      assert.equal(
        (await act(openDataVolume, [{ manifest: manifest(namespace, 'vm1') }], own)).finished,
        true,
      );
    });

    it('refuses another manifest under the same workflow id, whatever became of the first one', async () => {
      const open = async (spec: Record<string, unknown>) =>
        await act(openDataVolume, [{ manifest: manifest(namespace, 'vm1', spec) }], own);
      const { uid } = await open({});
      const storage = { resources: { requests: { storage: '1Gi' } } };
      const others: readonly (readonly [Record<string, unknown>, string])[] = [
        [{ source: { http: { url: 'http://images.example/other.qcow2' } } }, 'spec.source.http.url'],
        [{ source: { s3: { url: 'http://images.example/disk.qcow2' } } }, 'spec.source.s3'],
        [{ storage: { ...storage, resources: { requests: { storage: '2Gi' } } } }, 'spec.storage.resources'],
        [{ storage }, 'spec.storage.storageClassName'],
        [{ storage: undefined, pvc: { ...storage, accessModes: ['ReadWriteOnce'] } }, 'spec.storage'],
        [{ contentType: 'archive' }, 'spec.contentType'],
      ];
      for (const phase of [undefined, 'ImportInProgress', 'Succeeded'] as const) {
        if (phase) await setStatus(admin, namespace, 'vm1', { phase });
        for (const [spec, field] of others)
          await rejects(
            open(spec),
            'ResourceExists',
            new RegExp(
              `vm1 was made by an earlier run of this workflow, of another manifest \\(${field}.*\\): `,
            ),
          );
        // the same in other words
        for (const spec of [
          {},
          { contentType: '' },
          { priorityClassName: '', serviceAccountName: '' },
          {
            storage: {
              storageClassName: 'hostpath-provisioner',
              resources: { requests: { storage: '1024Mi' } },
            },
          },
        ])
          assert.equal((await open(spec)).uid, uid);
      }
    });

    it('takes for the same manifest what admission has changed', async () => {
      const admitted = createDataVolumeActivities({
        kubernetes: changing(kubernetes, (spec) => ({ ...spec, priorityClassName: 'by-policy' })),
        executions,
        temporalNamespace: 'default',
      }).openDataVolume;
      const open = async (spec: Record<string, unknown> = {}, attempt = 1) =>
        await act(admitted, [{ manifest: manifest(namespace, 'vm1', spec) }], { ...own, attempt });
      const facts = await open();
      assert.equal(((await read()).spec as Record<string, unknown>).priorityClassName, 'by-policy');
      assert.deepEqual(await open({}, 2), facts);
      assert.deepEqual(await open({ priorityClassName: 'by-policy' }), facts);
      await rejects(open({ preallocation: true }), 'ResourceExists', /another manifest \(spec\.\w+\): /);
      const { items } = (await admin.custom.listNamespacedCustomObject(dataVolumePath(namespace))) as {
        items: unknown[];
      };
      assert.equal(items.length, 1);
    });

    it("passes on the API server's judgement", async () => {
      const two = { source: { http: { url: 'http://a.example/x' }, blank: {} } };
      await rejects(
        act(openDataVolume, [{ manifest: manifest(namespace, 'vm1', two) }], own),
        'InvalidDataVolume',
        /Multiple Data volume sources/,
      );
      const typo = { source: { http: { url: 'http://a.example/x', cheksum: 'x' } } };
      await rejects(
        act(openDataVolume, [{ manifest: manifest(namespace, 'vm1', typo) }], own),
        'InvalidDataVolume',
        /unknown field.*cheksum/,
      );
      const marked = manifest(namespace, 'vm1', {}, { 'dvflow.io/retried': '1' });
      await rejects(
        act(openDataVolume, [{ manifest: marked }], own),
        'NotAuthorized',
        /only dvflow may set.*dvflow.io\/retried/,
      );
      await rejects(
        act(openDataVolume, [{ manifest: manifest('no-such-namespace', 'vm1') }], own),
        'InvalidDataVolume',
        /namespaces "no-such-namespace" not found/,
      );
    });

    it('believes the third refusal of rights', async () => {
      const restricted = createDataVolumeActivities({
        kubernetes: admin,
        executions,
        temporalNamespace: 'unbound',
      }).openDataVolume;
      const input = { manifest: manifest(namespace, 'vm1') };
      await rejectsForNow(
        act(restricted, [input], own),
        'KubernetesUnavailable',
        /User "dvflow:temporal:unbound" cannot create/,
      );
      await rejects(
        act(restricted, [input], { ...own, attempt: 3 }),
        'NotAuthorized',
        /User "dvflow:temporal:unbound" cannot create resource "datavolumes"/,
      );
    });
  });

  describe('a run of the maker that is started once more', () => {
    const maker = { workflowId: 'import/team-a/vm1' };
    const byManifest = async () =>
      await act(openDataVolume, [{ manifest: manifest(namespace, 'vm1') }], maker);
    const byReference = async (start: DataVolumeStart) => await act(openDataVolume, [{ start }], maker);
    const servedBy = (id: string) => new RegExp(`is served by workflow ${id}: .*dvflow retry vm1`);

    /** Made by Temporal's user and failed; the retry's run is under way, and no worker of this suite takes it up. */
    const retry = async (): Promise<{ start: DataVolumeStart; id: string; end: () => Promise<unknown> }> => {
      await byManifest();
      const start = { ...refOf(await read()), retry: 'one' };
      await setStatus(admin, namespace, 'vm1', { phase: 'Failed' });
      const workflowId = dataVolumeWorkflowId(start);
      const options = { workflowId, taskQueue: 'without-a-worker', args: [start] };
      const handle = await plane().temporal.workflow.start('importDataVolume', options);
      return { start, id: workflowId, end: async () => await handle.terminate() };
    };

    it('is refused from the moment that the run of a retry begins, which goes on itself', async () => {
      const { start, id, end } = await retry();
      const { retry: _, ...reference } = start;
      for (const opened of ['not opened', 'opened', 'opened by its second attempt']) {
        await rejects(byManifest(), 'ResourceExists', servedBy(id));
        await rejects(byReference(reference), 'ResourceExists', servedBy(id));
        const facts = await openStarted(start, { attempt: opened === 'not opened' ? 1 : 2 });
        assert.equal(facts.finished, undefined, opened);
      }
      // as it continues as new
      await record({ dataVolume: reference, phase: 'ImportInProgress' });
      assert.equal((await openStarted(reference, { runId: 'next' })).phase, 'ImportInProgress');
      await end();
    });

    it('is refused when that run has ended without a last phase, and says nothing about the DataVolume', async () => {
      const { start, id, end } = await retry();
      await openStarted(start);
      await end();
      await rejects(byManifest(), 'ResourceExists', servedBy(id));
      await rejects(byReference(start), 'ResourceExists', servedBy(id));
      await record({ dataVolume: start, phase: 'Failed' }, maker);
      assert.equal((await read()).status?.phase, 'Pending');
    });

    it('finds what the retry has completed', async () => {
      const { start, end } = await retry();
      await openStarted(start);
      await record({ dataVolume: start, phase: 'Succeeded' });
      await end();
      assert.equal((await byManifest()).finished, true);
    });

    it('goes on with its own DataVolume as long as nothing was retried, also by reference', async () => {
      await byManifest();
      const { finished } = await byManifest();
      await setStatus(admin, namespace, 'vm1', { phase: 'ImportInProgress' });
      const next = await byReference(refOf(await read()));
      assert.deepEqual([finished, next.finished, next.phase], [undefined, undefined, 'ImportInProgress']);
    });
  });

  describe('recordStatus', () => {
    const running = { type: 'Running', status: 'True', reason: 'Pod is running', message: '' } as const;

    it('says nothing in a namespace that is going, and is no failure', async () => {
      const dataVolume = await create();
      const hold = async (finalizers: string) =>
        await plane().kubectl(
          ...['patch', 'dv', '-n', namespace, 'vm1', '--type=merge'],
          ...['-p', `{"metadata":{"finalizers":${finalizers}}}`],
        );
      await hold('["example.com/hold"]');
      await admin.core.deleteNamespace({ name: namespace });
      const event = { type: 'Warning', reason: 'Cancelled', message: 'x' } as const;
      assert.deepEqual(await record({ dataVolume, phase: 'Failed', event }), { exists: true });
      assert.equal((await read()).status?.phase, 'Failed');
      await hold('null');
    });

    it('writes phase, conditions with times, progress and one event, twice the same', async () => {
      const dataVolume = await create();
      const event = {
        type: 'Normal',
        reason: 'ImportInProgress',
        message: 'Import into vm1 in progress',
      } as const;
      const update = {
        dataVolume,
        phase: 'ImportInProgress',
        claimName: 'vm1',
        conditions: [running],
        event,
      } as const;
      assert.deepEqual(await record(update), { exists: true });
      const { status } = await read();
      assert.deepEqual(await record(update, { attempt: 2 }), { exists: true });
      assert.deepEqual((await read()).status, status);
      assert.equal(status?.phase, 'ImportInProgress');
      assert.match(status?.conditions?.[0]?.lastTransitionTime ?? '', /^\d{4}-.*Z$/);
      const events = await admin.core.listNamespacedEvent({ namespace });
      assert.deepEqual(
        events.items.map(({ reason, message, count }) => [reason, message, count]),
        [['ImportInProgress', 'Import into vm1 in progress', 1]],
      );
      await record(update, { activityId: '9' });
      assert.equal((await admin.core.listNamespacedEvent({ namespace })).items[0]?.count, 2);
    });

    it("says of a claim that cannot be made what virtctl gives up at, beside the failure's own event", async () => {
      const dataVolume = await create();
      const event = { type: 'Warning', reason: 'IncompatiblePVC', message: 'no such mode' } as const;
      const update = { dataVolume, phase: 'Failed', event, claimNotValid: true } as const;
      for (const attempt of [1, 2]) assert.deepEqual(await record(update, { attempt }), { exists: true });
      const { items } = await admin.core.listNamespacedEvent({ namespace });
      assert.deepEqual(items.map(({ reason, message, count }) => `${reason}: ${message} ${count}`).sort(), [
        'ErrClaimNotValid: no such mode 1',
        'IncompatiblePVC: no such mode 1',
      ]);
      assert.ok(
        items.every(({ involvedObject: { kind, uid } }) => kind === 'DataVolume' && uid === dataVolume.uid),
      );
    });

    it('writes nothing after the last phase, but repeats that one', async () => {
      const dataVolume = await create();
      await record({ dataVolume, phase: 'Succeeded' });
      assert.equal((await read()).status?.progress, '100.0%');
      assert.deepEqual(await record({ dataVolume, phase: 'ImportInProgress', progress: '45.30%' }), {
        exists: true,
      });
      await record({ dataVolume, progress: '45.30%' });
      await record({ dataVolume, phase: 'Failed' });
      assert.deepEqual((await read()).status, { phase: 'Succeeded', progress: '100.0%' });
    });

    it('refuses a run that was reset after its failure, and keeps what it had failed of; a retry goes on', async () => {
      const dataVolume = await create();
      const failed = { type: 'Running', status: 'False', reason: 'SourceNotFound', message: '404' } as const;
      await record({ dataVolume, phase: 'Failed', conditions: [failed] });
      const { status } = await read();
      for (const phase of ['Pending', 'ImportScheduled', 'Succeeded'] as const)
        await rejects(
          record({ dataVolume, phase }),
          'ResourceExists',
          new RegExp(`vm1 is Failed: .*dvflow retry vm1 -n ${namespace}$`),
        );
      const event = { type: 'Warning', reason: 'ResourceExists', message: 'vm1 is Failed' } as const;
      const refused = { ...failed, reason: event.reason, message: event.message };
      await record({ dataVolume, phase: 'Failed', conditions: [refused], event });
      await record({ dataVolume, progress: '45.30%' });
      assert.deepEqual((await read()).status, status);
      const { items } = await admin.core.listNamespacedEvent({ namespace });
      assert.deepEqual(
        items.map(({ reason }) => reason),
        ['ResourceExists'],
      );
      await openStarted({ ...dataVolume, retry: 'one' });
      await record({ dataVolume, phase: 'ImportScheduled' });
      assert.equal((await read()).status?.phase, 'ImportScheduled');
    });

    it('is content when the DataVolume is gone', async () => {
      const dataVolume = await create();
      await plane().kubectl('delete', 'dv', '-n', namespace, 'vm1');
      assert.deepEqual(await record({ dataVolume, phase: 'Failed' }), { exists: false });
      await create();
      assert.deepEqual(await record({ dataVolume, phase: 'Failed' }), { exists: false });
      assert.equal((await read()).status, undefined);
    });
  });
});

/** The way to a cluster whose admission changes what a DataVolume asks for. */
function changing(
  kubernetes: Kubernetes,
  change: (spec: Record<string, unknown>) => Record<string, unknown>,
): Kubernetes {
  const create: Kubernetes['custom']['createNamespacedCustomObject'] = async (request, options) => {
    const body = request.body as { spec: Record<string, unknown> };
    const changed = { ...request, body: { ...body, spec: change(body.spec) } };
    return (await kubernetes.custom.createNamespacedCustomObject(changed, options)) as unknown;
  };
  const custom = new Proxy(kubernetes.custom, {
    get: (api, name) =>
      name === 'createNamespacedCustomObject' ? create : (Reflect.get(api, name) as unknown),
  });
  return { ...kubernetes, custom };
}
