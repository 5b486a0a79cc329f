import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, Connection, defaultGrpcRetryOptions, makeGrpcRetryInterceptor } from '@temporalio/client';
import { createClaimActivities } from '../../activities/kubernetes/claims.js';
import { createKubernetes } from '../../activities/kubernetes/client.js';
import type { Kubernetes } from '../../activities/kubernetes/client.js';
import { createCredentialActivities } from '../../activities/kubernetes/credentials.js';
import { createExecutionObserver } from '../../activities/kubernetes/executions.js';
import { createSweepActivities } from '../../activities/kubernetes/sweep.js';
import { createVolumeActivities } from '../../activities/kubernetes/volumes.js';
import type { ClaimRef, DataVolumeRef, UnpublishedItem } from '../../activities/types.js';
import { useControlPlane } from './support/control-plane.js';
import { act, createDataVolume, makeNamespace, manifest, POOL, refOf, TARGET } from './support/fixtures.js';

const KINDS = ['PersistentVolumeClaim', 'Secret'];

describe('the sweeper on a real API server and a real Temporal server', function () {
  this.timeout(30_000);
  const plane = useControlPlane();
  let admin: Kubernetes;
  let kubernetes: Kubernetes;
  let namespace: string;
  const transferNamespace = 'dvflow-transfers';

  before(async () => {
    admin = plane().admin;
    kubernetes = createKubernetes(plane().control);
    // the node that volumes are made on here
    await admin.core.createNode({ body: { metadata: { name: 'n' } } }).catch(() => undefined);
  });
  after(() => admin.core.deleteNode({ name: 'n' }));
  beforeEach(async () => {
    namespace = await makeNamespace(admin);
  });

  const sweeper = (graceMs = -10_000, temporal = plane().temporal) =>
    createSweepActivities({
      kubernetes,
      executions: createExecutionObserver(temporal),
      transferNamespace,
      graceMs,
    });
  /** A lifecycle's claim and Secret, left by workflow `workflowId`. */
  const leave = async (workflowId: string): Promise<{ dataVolume: DataVolumeRef; claim: ClaimRef }> => {
    const dataVolume = refOf(
      await createDataVolume(admin, manifest(namespace, `vm-${randomUUID().slice(0, 8)}`)),
    );
    const claim = await act(
      createClaimActivities({ kubernetes }).ensureClaim,
      [{ dataVolume, target: TARGET }],
      { workflowId },
    );
    const { copyCredentials } = createCredentialActivities({ kubernetes, transferNamespace });
    await act(copyCredentials, [{ dataVolume }], { workflowId });
    return { dataVolume, claim };
  };
  const publish = async (dataVolume: DataVolumeRef, claim: ClaimRef) => {
    const directory = {
      node: 'n',
      hostname: 'n',
      pool: POOL.path,
      directory: `pvc-${claim.uid}`,
      dataVolume,
      promisedBytes: 1,
    };
    await act(createVolumeActivities({ kubernetes }).publishVolume, [
      { dataVolume, claim, target: TARGET, directory },
    ]);
  };
  const startWorkflow = async (workflowId: string) =>
    await plane().temporal.workflow.start('importDataVolume', { workflowId, taskQueue: 'nobody', args: [] });
  const itemsOf = async ({ uid }: DataVolumeRef): Promise<readonly UnpublishedItem[]> =>
    (await act(sweeper().listUnpublished, [])).filter((item) => item.dataVolume.uid === uid);
  const judgeAll = async (items: readonly UnpublishedItem[], graceMs?: number) =>
    await act(sweeper(graceMs).judgeUnpublished, [{ items }]);
  const judge = async (items: readonly UnpublishedItem[], graceMs?: number) =>
    (await judgeAll(items, graceMs)).filter(({ published }) => !published).map(({ kind }) => kind);
  const publishedOf = async (items: readonly UnpublishedItem[], graceMs?: number) =>
    (await judgeAll(items, graceMs)).filter(({ published }) => published);
  const directoryOf = (claim: ClaimRef, like: UnpublishedItem): UnpublishedItem => {
    const { objectUid: _, ...item } = like;
    return { ...item, kind: 'Directory', where: 'n', pool: POOL.path, name: `pvc-${claim.uid}` };
  };

  it('lists what carries the mark, with everything that a judgement needs', async () => {
    const { dataVolume, claim } = await leave('w/list');
    const items = await itemsOf(dataVolume);
    assert.deepEqual(
      items.map(({ kind }) => kind),
      KINDS,
    );
    const [item] = items;
    assert.deepEqual(
      { ...item, createdAt: '' },
      {
        kind: 'PersistentVolumeClaim',
        where: namespace,
        name: claim.name,
        objectUid: claim.uid,
        dataVolume,
        workflowId: 'w/list',
        createdAt: '',
      },
    );
    assert.ok(Math.abs(Date.parse(item?.createdAt ?? '') - Date.now()) < 60_000);
  });

  it('lists neither what is young, nor more than a page', async () => {
    const { dataVolume } = await leave('w/pages');
    const young = await act(sweeper(600_000).listUnpublished, []);
    assert.deepEqual(
      young.filter((item) => item.dataVolume.uid === dataVolume.uid),
      [],
    );
    await leave('w/pages');
    const all = await act(sweeper().listUnpublished, []);
    const paged: UnpublishedItem[] = [];
    for (let after: UnpublishedItem | undefined; ; after = paged.at(-1)) {
      const page = await act(sweeper().listUnpublished, [{ limit: 3, ...(after ? { after } : {}) }]);
      assert.ok(page.length <= 3);
      paged.push(...page);
      if (page.length < 3) break;
    }
    assert.deepEqual(paged, all);
  });

  it('leaves out what cannot be judged, as long as something can', async () => {
    const [odd] = await itemsOf((await leave('w/odd')).dataVolume);
    const [item] = await itemsOf((await leave('w/ended')).dataVolume);
    const executions = {
      stateOf: async (workflowId: string) => {
        if (workflowId === 'w/odd') throw new Error('no workflow has such an id');
        return 'closed' as const;
      },
      transferredBytes: async () => 0,
    };
    const dependencies = { kubernetes, executions, transferNamespace, graceMs: -10_000 };
    const { judgeUnpublished } = createSweepActivities(dependencies);
    assert.deepEqual(await act(judgeUnpublished, [{ items: [odd!, item!] }]), [item]);
    await assert.rejects(act(judgeUnpublished, [{ items: [odd!] }]), /no workflow has such an id/);
  });

  it('keeps what a running workflow holds, and takes it when it was terminated', async () => {
    const handle = await startWorkflow('w/running');
    const { dataVolume } = await leave('w/running');
    const items = await itemsOf(dataVolume);
    assert.deepEqual(await judge(items), []);
    await handle.terminate('by hand');
    assert.deepEqual(await judge(items), KINDS);
    for (const item of items) {
      await act(sweeper().removeUnpublished, [{ item }]);
      await act(sweeper().removeUnpublished, [{ item }], { attempt: 2 });
    }
    assert.deepEqual(await judge(await itemsOf(dataVolume)), []);
  });

  it('believes the latest run: a workflow that was started again is running', async () => {
    await (await startWorkflow('w/again')).terminate();
    const { dataVolume } = await leave('w/again');
    await startWorkflow('w/again');
    assert.deepEqual(await judge(await itemsOf(dataVolume)), []);
  });

  it('keeps what a Temporal server does not know while the DataVolume lives', async () => {
    const { dataVolume } = await leave('w/forgotten');
    const items = await itemsOf(dataVolume);
    assert.deepEqual(await judge(items), []);
    const { namespace: where, name } = dataVolume;
    await plane().kubectl('delete', 'dv', name, '-n', where);
    // the garbage collector takes the claim, nobody but the sweeper the Secret
    const secret = items.filter(({ kind }) => kind === 'Secret');
    assert.deepEqual(await judge(secret), ['Secret']);
    await createDataVolume(admin, manifest(where, name));
    assert.deepEqual(await judge(secret), ['Secret']);
  });

  it('keeps what is young', async () => {
    await (await startWorkflow('w/young')).terminate();
    const { dataVolume } = await leave('w/young');
    assert.deepEqual(await judge(await itemsOf(dataVolume), 600_000), []);
  });

  it('keeps a disk that was offered, published or not', async () => {
    await (await startWorkflow('w/offered')).terminate();
    const { dataVolume, claim } = await leave('w/offered');
    const [, secret] = await itemsOf(dataVolume);
    await publish(dataVolume, claim);
    // as it is left by a worker that dies before it removes the marks
    const mark = JSON.stringify({
      metadata: {
        labels: { 'dvflow.io/unpublished': dataVolume.uid },
        annotations: {
          'dvflow.io/workflow-id': 'w/offered',
          'dvflow.io/data-volume': `${namespace}/${claim.name}`,
        },
      },
    });
    const as = '--as=system:serviceaccount:dvflow:dvflow-control';
    await plane().kubectl('patch', 'pvc', claim.name, '-n', namespace, '-p', mark, as);
    await plane().kubectl('patch', 'pv', `pvc-${claim.uid}`, '-p', mark, as);
    const directory: UnpublishedItem = {
      ...secret!,
      kind: 'Directory',
      where: 'n',
      pool: POOL.path,
      name: `pvc-${claim.uid}`,
    };
    const items = [...(await itemsOf(dataVolume)), directory];
    assert.deepEqual(
      items.map(({ kind }) => kind),
      ['PersistentVolumeClaim', 'PersistentVolume', 'Secret', 'Directory'],
    );
    assert.deepEqual(await judge(items), ['Secret']);
    for (const item of items) {
      if (item.kind === 'PersistentVolumeClaim') await act(sweeper().removeUnpublished, [{ item }]);
    }
    const kept = await admin.core.readNamespacedPersistentVolumeClaim({ namespace, name: claim.name });
    assert.equal(kept.metadata?.deletionTimestamp, undefined);
  });

  it('finds what a user has although the mark stayed, also when its claim is gone and the data is kept', async () => {
    const handle = await startWorkflow('w/stale');
    const { dataVolume, claim } = await leave('w/stale');
    const [, secret] = await itemsOf(dataVolume);
    await publish(dataVolume, claim);
    const name = `pvc-${claim.uid}`;
    const as = '--as=system:serviceaccount:dvflow:dvflow-control';
    const mark = { metadata: { labels: { 'dvflow.io/unpublished': dataVolume.uid } } };
    const annotations = { 'dvflow.io/workflow-id': 'w/stale', 'dvflow.io/data-volume': `${namespace}/x` };
    const stale = JSON.stringify({
      metadata: { ...mark.metadata, annotations },
      spec: { persistentVolumeReclaimPolicy: 'Retain' },
    });
    await plane().kubectl('patch', 'pv', name, '-p', stale, as);
    const directory = directoryOf(claim, secret!);
    const found = async (graceMs?: number) =>
      (await publishedOf([...(await itemsOf(dataVolume)), directory], graceMs)).map(({ kind }) => kind);
    assert.deepEqual(await found(), ['Directory'], 'its run still works on the volume');
    await handle.terminate();
    assert.deepEqual(await found(), ['PersistentVolume', 'Directory']);
    assert.deepEqual(await found(600_000), []);
    assert.deepEqual(await publishedOf([{ ...directory, where: 'another-node' }]), []);
    const [volume] = await publishedOf(await itemsOf(dataVolume));
    for (const attempt of [1, 2]) await act(sweeper().removeUnpublished, [{ item: volume! }], { attempt });
    const kept = await admin.core.readPersistentVolume({ name });
    assert.deepEqual(
      [kept.metadata?.labels, kept.metadata?.annotations?.['dvflow.io/workflow-id'], kept.status?.phase],
      [undefined, undefined, 'Bound'],
    );
    await admin.core.deleteNamespacedPersistentVolumeClaim({ namespace, name: claim.name });
    const phase = async () => (await admin.core.readPersistentVolume({ name })).status?.phase;
    for (let waited = 0; waited < 10_000 && (await phase()) !== 'Released'; waited += 100) await sleep(100);
    assert.equal(await phase(), 'Released');
    assert.deepEqual(await found(), ['Directory']);
    assert.deepEqual(await judge([directory]), []);
  });

  it('takes a directory on one node although a volume of another node has the same path', async () => {
    await (await startWorkflow('w/elsewhere')).terminate();
    const { dataVolume, claim } = await leave('w/elsewhere');
    const [, secret] = await itemsOf(dataVolume);
    await publish(dataVolume, claim);
    const directory = directoryOf(claim, secret!);
    assert.deepEqual(await judge([directory]), []);
    assert.deepEqual(await judge([{ ...directory, where: 'another-node' }]), ['Directory']);
  });

  it('leaves a directory whose volume names it by another path, or a node by another name', async () => {
    await (await startWorkflow('w/moved')).terminate();
    const { dataVolume, claim } = await leave('w/moved');
    const [, secret] = await itemsOf(dataVolume);
    await publish(dataVolume, claim);
    const directory = directoryOf(claim, secret!);
    const moved = { ...directory, pool: '/srv/the-same-by-a-link' };
    assert.deepEqual(await judge([moved]), []);
    assert.deepEqual(await publishedOf([moved]), [], 'it may be a leftover in another pool: its mark stays');
    assert.equal((await publishedOf([{ ...directory, pool: `${POOL.path}/` }])).length, 1);
    await admin.core.deleteNode({ name: 'n' });
    try {
      const renamed = { ...directory, where: 'its-new-name' };
      assert.deepEqual([await judge([renamed]), await publishedOf([renamed])], [[], []]);
    } finally {
      await admin.core.createNode({ body: { metadata: { name: 'n' } } });
    }
  });

  it('leaves a directory whose volume was made again as a local one, on any node that it can be on', async () => {
    await (await startWorkflow('w/local')).terminate();
    const { dataVolume, claim } = await leave('w/local');
    const [, secret] = await itemsOf(dataVolume);
    const directory = directoryOf(claim, secret!);
    const hostname = (value: string) => ({
      required: {
        nodeSelectorTerms: [{ matchFields: [{ key: 'metadata.name', operator: 'In', values: [value] }] }],
      },
    });
    const name = `kept-${claim.uid}`;
    await admin.core.createPersistentVolume({
      body: {
        metadata: { name },
        spec: {
          accessModes: ['ReadWriteOnce'],
          capacity: { storage: '1Gi' },
          local: { path: `/elsewhere/${directory.name}/` },
          nodeAffinity: hostname('n'),
        },
      },
    });
    try {
      assert.deepEqual(await judge([directory]), []);
      assert.deepEqual(await judge([{ ...directory, where: 'another-node' }]), ['Directory']);
    } finally {
      await admin.core.deletePersistentVolume({ name });
    }
    // Kubernetes takes its own finalizer off in its own time
    const isThere = async () => await admin.core.readPersistentVolume({ name }).catch(() => undefined);
    for (let waited = 0; waited < 10_000 && (await isThere()); waited += 100) await sleep(100);
    assert.deepEqual(await judge([directory]), ['Directory']);
  });

  it('takes a block volume without a PersistentVolume when its run has ended', async () => {
    const handle = await startWorkflow('w/block');
    const name = `block-${randomUUID().slice(0, 8)}`;
    const item: UnpublishedItem = {
      kind: 'BlockVolume',
      where: 'n',
      name,
      objectUid: 'run-1',
      pool: POOL.path,
      dataVolume: { namespace: '', name, uid: `block-${name}` },
      workflowId: 'w/block',
      createdAt: new Date().toISOString(),
    };
    assert.deepEqual(await judge([item]), []);
    await handle.terminate();
    assert.deepEqual(await judge([item], 600_000), []);
    assert.deepEqual(await judge([item, { ...item, workflowId: '' }]), ['BlockVolume']);
    await admin.core.createPersistentVolume({
      body: {
        metadata: { name },
        spec: { accessModes: ['ReadWriteOnce'], capacity: { storage: '1Gi' }, hostPath: { path: '/x' } },
      },
    });
    assert.deepEqual(await judge([item]), []);
    await admin.core.deletePersistentVolume({ name });
  });

  it('takes the state of a transfer when its run has ended, unless its volume is still to be given back', async () => {
    const handle = await startWorkflow('w/transfer');
    const uid = randomUUID();
    const name = `pv-${uid.slice(0, 8)}`;
    const volume = {
      metadata: { name, labels: { 'dvflow.io/unpublished': uid } },
      spec: { accessModes: ['ReadWriteOnce'], capacity: { storage: '1Gi' }, hostPath: { path: '/x' } },
    };
    const { metadata } = await kubernetes.core.createPersistentVolume({ body: volume });
    const item: UnpublishedItem = {
      kind: 'TransferState',
      where: 'n',
      name: uid,
      objectUid: metadata!.uid!,
      dataVolume: { namespace, name: 'vm1', uid },
      workflowId: 'w/transfer',
      createdAt: new Date().toISOString(),
    };
    const other = { ...item, objectUid: randomUUID() };
    assert.deepEqual(await judge([item, other]), []);
    await handle.terminate();
    assert.deepEqual(await judge([item, other], 600_000), []);
    assert.deepEqual(await judgeAll([item, other]), [other]);
    await admin.core.deletePersistentVolume({ name });
    // its finalizer goes a moment later
    for (let waited = 0; waited < 10_000 && (await judgeAll([item])).length === 0; waited += 100)
      await sleep(100);
    assert.deepEqual(await judgeAll([item]), [item]);
  });

  it('takes a directory without a volume, and never one that names no workflow', async () => {
    await (await startWorkflow('w/dir')).terminate();
    const { dataVolume, claim } = await leave('w/dir');
    const [, secret] = await itemsOf(dataVolume);
    const directory: UnpublishedItem = {
      ...secret!,
      kind: 'Directory',
      where: 'n',
      pool: POOL.path,
      name: `pvc-${claim.uid}`,
    };
    assert.deepEqual(await judge([directory]), ['Directory']);
    assert.deepEqual(await judge([{ ...directory, workflowId: '' }]), []);
    assert.deepEqual(await judge([{ ...directory, createdAt: 'nonsense' }]), []);
  });

  it('removes nothing when the mark went, or the version changed, since the look', async () => {
    await (await startWorkflow('w/race')).terminate();
    const { dataVolume, claim } = await leave('w/race');
    const items = await itemsOf(dataVolume);
    await plane().kubectl(
      'label',
      'pvc',
      claim.name,
      '-n',
      namespace,
      'dvflow.io/unpublished-',
      '--as=system:serviceaccount:dvflow:dvflow-control',
    );
    assert.deepEqual(await judge(items), ['Secret']);
    for (const item of items) await act(sweeper().removeUnpublished, [{ item }]);
    const kept = await admin.core.readNamespacedPersistentVolumeClaim({ namespace, name: claim.name });
    assert.equal(kept.metadata?.deletionTimestamp, undefined);
  });

  it('leaves a claim that another run has found since it was judged', async () => {
    await (await startWorkflow('w/first')).terminate();
    const { dataVolume, claim } = await leave('w/first');
    const [item] = await itemsOf(dataVolume);
    assert.deepEqual(await judge([item!]), ['PersistentVolumeClaim']);
    const running = await startWorkflow('w/second');
    const found = await act(
      createClaimActivities({ kubernetes }).ensureClaim,
      [{ dataVolume, target: TARGET }],
      { workflowId: 'w/second', runId: 'run-2' },
    );
    assert.equal(found.uid, claim.uid);
    await act(sweeper().removeUnpublished, [{ item: item! }]);
    const kept = await admin.core.readNamespacedPersistentVolumeClaim({ namespace, name: claim.name });
    assert.equal(kept.metadata?.deletionTimestamp, undefined);
    // whoever looked at the claim before cannot remove it by that look
    const { annotations } = kept.metadata ?? {};
    assert.equal(annotations?.['dvflow.io/workflow-id'], 'w/second');
    assert.equal(annotations?.['dvflow.io/renewed-by'], 'run-2');
    await running.terminate();
    const [renewed] = await itemsOf(dataVolume);
    assert.deepEqual(await judge([renewed!]), ['PersistentVolumeClaim']);
  });

  it('removes nothing with Temporal away', async function () {
    await (await startWorkflow('w/away')).terminate();
    const { dataVolume } = await leave('w/away');
    const items = await itemsOf(dataVolume);
    // port 1 refuses every connection; a second try is enough to know
    const interceptors = [makeGrpcRetryInterceptor(defaultGrpcRetryOptions({ maxAttempts: 2 }))];
    const away = new Client({ connection: Connection.lazy({ address: '127.0.0.1:1', interceptors }) });
    const { judgeUnpublished } = sweeper(-10_000, away);
    await assert.rejects(
      act(judgeUnpublished, [{ items }]),
      (error) => error instanceof Error && (error as { nonRetryable?: boolean }).nonRetryable !== true,
    );
    await away.connection.close();
  });
});
