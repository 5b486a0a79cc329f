import assert from 'node:assert/strict';
import { mkdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { StorageV1Api } from '@kubernetes/client-node';
import { WorkflowFailedError } from '@temporalio/client';
import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import type { PreparationResult, PreparationStatus } from '../../activities/types/preparation.js';
import { CONTROL_QUEUE } from '../../workflows/task-queues.js';
import { announceNode } from '../../workers/node-start.js';
import { isRoot } from '../node/support.js';
import {
  FRESH,
  labelOf,
  makeSelinuxWorld,
  mountContainerLayer,
  setLabel,
} from '../node/preparation/selinux-world.js';
import {
  createMachineConfigOperator,
  machineConfigCrds,
  type MachineConfigOperator,
} from '../support/openshift/operator.js';
import { useStack } from '../support/stack.js';
import {
  conditionOf,
  createPreparationWorld,
  manifestOf,
  TAINT,
  TOLERATIONS,
  type PreparationWorld,
} from './preparing.js';
import { recordHistory } from './record.js';
import { eventually } from './world.js';

describe('preparing storage', function () {
  this.timeout(180_000);
  const stack = useStack();
  let world: PreparationWorld;
  let selinux: ReturnType<typeof makeSelinuxWorld>;
  let storage: StorageV1Api;

  before(() => {
    world = createPreparationWorld(stack);
    storage = stack.kubeConfig.makeApiClient(StorageV1Api);
  });
  beforeEach(() => {
    selinux = makeSelinuxWorld();
  });
  afterEach(async () => {
    await world.cleanUp();
    selinux.remove();
  });

  const resultOf = async (workflowId: string): Promise<PreparationResult> =>
    (await stack.temporal.workflow.getHandle(workflowId).result()) as PreparationResult;
  const failureOf = async (workflowId: string): Promise<unknown> => {
    const error: unknown = await stack.temporal.workflow
      .getHandle(workflowId)
      .result()
      .then(
        () => assert.fail('succeeded'),
        (failure: unknown) => failure,
      );
    assert.ok(error instanceof WorkflowFailedError, String(error));
    return error.cause instanceof ApplicationFailure || error.cause instanceof CancelledFailure
      ? error.cause
      : error.cause?.cause;
  };
  const start = async (manifest: unknown, workflowId: string) =>
    await stack.temporal.workflow.start('prepareStorage', {
      args: [manifest],
      taskQueue: CONTROL_QUEUE,
      workflowId,
    });

  it("has made the stack's own HostPathProvisioner Available, with per-node detail and its generation", async () => {
    const found = await world.awaitCondition('hostpath-provisioner', 'Available', 'True');
    assert.deepEqual(
      found.status?.nodes?.map(({ name, phase }) => [name, phase]),
      [[stack.info.node, 'Ready']],
    );
    assert.deepEqual(
      ['Progressing', 'Degraded'].map((type) => conditionOf(found, type)?.status),
      ['False', 'False'],
    );
    assert.match(conditionOf(found, 'Available')?.message ?? '', /^1 of 1 nodes are ready/);
  });

  it('prepares what kubectl creates: directory, class, and a warning for the shared partition', async () => {
    const path = join(selinux.base, 'deep', 'er', 'hpvolumes');
    const id = await world.create(
      'z-plain',
      { pathConfig: { path, useNamingPrefix: 'false' } },
      { 'dvflow.io/storage-class': 'z-plain' },
    );
    const found = await world.awaitCondition('z-plain', 'Available', 'True', 'PoolPathSharedWithOS');
    assert.match(
      conditionOf(found, 'Available')?.message ?? '',
      /shared with the operating system: \S+hpvolumes with \/ on node/,
    );
    assert.ok((await stat(path)).isDirectory());
    const { machineConfigs, storageClasses, nodes } = await resultOf(id);
    assert.deepEqual([machineConfigs, storageClasses, nodes.length], [[], ['z-plain'], 1]);
    assert.equal(
      (await storage.readStorageClass({ name: 'z-plain' })).provisioner,
      'kubevirt.io/hostpath-provisioner',
    );
    const said = await world.events('z-plain');
    for (const expected of [
      /^Warning PoolPathSharedWithOS: /,
      /^Normal DirectoryPrepared: directory .* was made/,
      /^Normal StorageClassCreated: /,
      /^Normal Complete: 1 nodes are ready/,
    ])
      assert.ok(
        said.some((text) => expected.test(text)),
        `${String(expected)} in ${said.join('\n')}`,
      );
    await recordHistory(stack, id, 'prepareStorage.succeeded');

    await world.remove('z-plain');
    await eventually('the class goes with its HostPathProvisioner', 30_000, async () =>
      (await storage.readStorageClass({ name: 'z-plain' }).catch(() => undefined)) ? undefined : true,
    );
    assert.ok((await stat(path)).isDirectory(), 'the directory stays');
  });

  it('prepares what the Temporal UI is given, in one workflow', async () => {
    const path = join(selinux.base, 'pools', 'local');
    const manifest = manifestOf(
      'z-temporal',
      { storagePools: [{ name: 'local', path }] },
      { 'dvflow.io/storage-class': 'local=z-csi' },
    );
    const handle = await start(JSON.stringify(manifest), 'prepare-by-hand');
    const { nodes, storageClasses } = (await handle.result()) as PreparationResult;
    assert.deepEqual([nodes.map(({ phase }) => phase), storageClasses], [['Ready'], ['z-csi']]);
    const found = await world.get('z-temporal');
    assert.equal(found.metadata.annotations?.['dvflow.io/workflow-id'], 'prepare-by-hand');
    assert.deepEqual(found.status?.storagePoolStatuses, [
      { name: 'local', phase: 'Ready', desiredReady: 1, currentReady: 1 },
    ]);
    assert.deepEqual((await storage.readStorageClass({ name: 'z-csi' })).parameters, {
      storagePool: 'local',
    });
    await recordHistory(stack, 'prepare-by-hand', 'prepareStorage.succeeded.by-manifest');
    await world.remove('z-temporal');
  });

  it('refuses a directory in / itself, from both sides, and takes the corrected one at once', async () => {
    const id = await world.create('z-root', { pathConfig: { path: '/hpvolumes' } });
    const found = await world.awaitCondition('z-root', 'Degraded', 'True', 'InvalidHostPathProvisioner');
    assert.match(conditionOf(found, 'Degraded')?.message ?? '', /lies in the root directory \//);
    assert.equal(conditionOf(found, 'Available')?.status, 'False');
    assert.match(String(await failureOf(id)), /lies in the root directory/);
    await recordHistory(stack, id, 'prepareStorage.failed.invalid');
    await world.patch('z-root', { spec: { pathConfig: { path: join(selinux.base, 'right', 'pool') } } });
    await world.awaitCondition('z-root', 'Available', 'True');

    const handle = await start(
      manifestOf('z-root-2', { pathConfig: { path: '/hpvolumes' } }),
      'prepare-root',
    );
    const failure = await failureOf(handle.workflowId);
    assert.ok(failure instanceof ApplicationFailure);
    assert.equal(failure.type, 'InvalidHostPathProvisioner');
    await assert.rejects(world.get('z-root-2'), { code: 404 });
    for (const [index, nonsense] of [null, 7, '[]', {}].entries()) {
      const refused = await start(nonsense, `prepare-nonsense-${index}`);
      const cause = await failureOf(refused.workflowId);
      assert.ok(cause instanceof ApplicationFailure);
      assert.equal(cause.type, 'InvalidHostPathProvisioner', JSON.stringify(nonsense));
    }
  });

  it('labels what is there already, verifies it, and looks again when the worker of a node starts', async function () {
    if (!isRoot) return this.skip();
    const path = join(selinux.base, 'lib', 'hpvolumes');
    await mkdir(join(path, 'pvc-1'), { recursive: true });
    await writeFile(join(path, 'pvc-1', 'disk.img'), 'data');
    setLabel(FRESH, path, join(path, 'pvc-1'), join(path, 'pvc-1', 'disk.img'));
    await world.addNode('z-node', { test: 'label' });
    const worker = await world.startWorker('z-node', selinux.selinuxfs);
    const id = await world.create('z-label', {
      pathConfig: { path },
      workload: { nodeSelector: { test: 'label' }, tolerations: TOLERATIONS },
    });
    const found = await world.awaitCondition('z-label', 'Progressing', 'False');
    assert.deepEqual(
      found.status?.nodes?.map(({ name, phase }) => [name, phase]),
      [['z-node', 'Ready']],
    );
    for (const name of ['', 'pvc-1', 'pvc-1/disk.img'])
      assert.match(labelOf(join(path, name)), /:container_file_t:s0$/);
    await resultOf(id);
    const said = await world.events('z-label');
    assert.ok(
      said.some((text) => /3 of 3 entries of .* on node z-node were labelled/.test(text)),
      said.join('\n'),
    );
    await recordHistory(stack, id, 'prepareStorage.succeeded.labelled');

    await worker.stop();
    setLabel(FRESH, path);
    await world.startWorker('z-node', selinux.selinuxfs);
    const logger = { warn: (message: string) => assert.fail(message) };
    await announceNode({ client: stack.temporal, node: 'z-node', logger }, AbortSignal.timeout(10_000));
    await eventually('the label is there again', 30_000, async () =>
      labelOf(path).includes(':container_file_t:') ? true : undefined,
    );
    const { provisioners } = (await stack.temporal.workflow.getHandle('recheck-node/z-node').result()) as {
      provisioners: string[];
    };
    assert.ok(provisioners.includes('z-label'));
    await recordHistory(stack, 'recheck-node/z-node', 'recheckNode.succeeded');
  });

  it('tells a node that does not answer, takes it when it does, and ends at the deadline where it never does', async () => {
    await world.addNode('z-silent', { test: 'silent' });
    const path = join(selinux.base, 'lib', 'silent');
    const spec = {
      pathConfig: { path },
      workload: { nodeSelector: { test: 'silent' }, tolerations: TOLERATIONS },
    };
    const id = await world.create('z-silent', spec);
    const found = await world.awaitCondition('z-silent', 'Degraded', 'True', 'NodesDegraded');
    assert.match(
      conditionOf(found, 'Degraded')?.message ?? '',
      /node z-silent: no node worker answers on z-silent/,
    );
    const status = await stack.temporal.workflow.getHandle(id).query<PreparationStatus>('status');
    assert.match(status.waiting?.for ?? '', /no node worker answers/);
    const worker = await world.startWorker('z-silent', join(selinux.base, 'no-selinux'));
    await world.awaitCondition('z-silent', 'Available', 'True');
    await resultOf(id);
    await worker.stop();
    const late = await world.create('z-late', spec, { 'dvflow.io/deadline': '12s' });
    await world.awaitCondition('z-late', 'Degraded', 'True', 'NodesDegraded');
    const failure = await failureOf(late);
    assert.ok(failure instanceof ApplicationFailure);
    assert.equal(failure.type, 'DeadlineExceeded');
    assert.match(
      failure.message,
      /no progress for 12000 ms \(dvflow.io\/deadline\) while waiting: node z-silent/,
    );
    await recordHistory(stack, late, 'prepareStorage.failed.deadline');
    await world.awaitCondition('z-late', 'Degraded', 'True', 'DeadlineExceeded');
  });

  it('says that no node is chosen, and begins when one is', async () => {
    const path = join(selinux.base, 'lib', 'nowhere');
    await world.create('z-nowhere', {
      pathConfig: { path },
      workload: { nodeSelector: { test: 'nowhere' }, tolerations: TOLERATIONS },
    });
    const found = await world.awaitCondition('z-nowhere', 'Degraded', 'True', 'NoNodes');
    assert.match(conditionOf(found, 'Available')?.message ?? '', /workload selects none of \d+ nodes/);
    await world.startWorker('z-come', join(selinux.base, 'no-selinux'));
    await world.addNode('z-come', { test: 'nowhere' });
    await world.awaitCondition('z-nowhere', 'Available', 'True');
  });

  describe('on RHCOS, the operator played', () => {
    let operator: MachineConfigOperator;
    const NODES = ['z-rh1', 'z-rh2'];
    const config = '50-set-selinux-for-z-rhcos-worker';

    before(async function () {
      if (!isRoot) return this.skip();
      await stack.kubectl(['apply', '-f', '-'], { input: machineConfigCrds() });
      operator = createMachineConfigOperator(stack.kubeConfig);
      await operator.awaitKinds();
    });
    after(async () => {
      if (operator) await stack.kubectl(['delete', '-f', '-'], { input: machineConfigCrds() });
    });
    beforeEach(async () => {
      await operator.addPool('worker');
      for (const node of NODES) {
        await operator.addNode(node, ['worker'], [TAINT]);
        await world.startWorker(node, selinux.selinuxfs);
      }
      await operator.rollOut('worker');
    });
    afterEach(() => operator.removeAll(NODES));

    const create = async (
      annotations: Record<string, string> = {},
      path = join(selinux.base, 'lib', 'hpvolumes'),
    ): Promise<{ id: string; path: string }> => {
      const workload = { nodeSelector: { 'node.openshift.io/os_id': 'rhcos' }, tolerations: TOLERATIONS };
      return { path, id: await world.create('z-rhcos', { pathConfig: { path }, workload }, annotations) };
    };
    const awaitMessage = async (type: string, expected: RegExp): Promise<void> =>
      void (await eventually(`${type} ${expected.source}`, 60_000, async () => {
        const found = conditionOf(await world.get('z-rhcos'), type);
        return found?.status === 'True' && expected.test(found.message ?? '') ? true : undefined;
      }));
    const awaitConfig = async (): Promise<void> =>
      void (await eventually(`MachineConfig ${config}`, 60_000, async () =>
        (await operator.configs()).some(({ metadata }) => metadata.name === config) ? true : undefined,
      ));

    it('makes a MachineConfig, follows its rollout node by node, and verifies the label on each', async () => {
      const { id, path } = await create();
      await awaitConfig();
      await awaitMessage('Progressing', /does not hold 50-set-selinux-for-z-rhcos-worker yet/);
      await operator.patchPool('worker', { spec: { paused: true } });
      await awaitMessage('Degraded', /it is paused: set spec.paused to false to roll out/);
      await operator.patchPool('worker', { spec: { paused: false } });
      await operator.render('worker');
      await operator.sync('worker');
      await operator.begin('z-rh1', 'worker');
      await awaitMessage('Progressing', /node z-rh1 is at work: it is not Ready since/);
      await operator.finish('z-rh1', 'worker');
      // nobody's kubelet has spoken for it since the beginning
      await operator.setReady('z-rh2', true);
      await operator.begin('z-rh2', 'worker', 'Degraded', 'disk is full');
      await awaitMessage('Degraded', /node z-rh2 is degraded: disk is full/);
      assert.equal(conditionOf(await world.get('z-rhcos'), 'Available')?.status, 'True', 'one node is ready');
      await operator.finish('z-rh2', 'worker');
      await operator.sync('worker');
      const found = await world.awaitCondition('z-rhcos', 'Progressing', 'False');
      assert.deepEqual(
        found.status?.nodes?.map(({ phase }) => phase),
        ['Ready', 'Ready'],
      );
      assert.equal(labelOf(path), 'system_u:object_r:container_file_t:s0');
      assert.deepEqual((await resultOf(id)).machineConfigs, [config]);
      const said = await world.events('z-rhcos');
      assert.ok(
        said.some((text) => /MachineConfigCreated: .* drain and reboot one after the other/.test(text)),
        said.join('\n'),
      );
      await recordHistory(stack, id, 'prepareStorage.succeeded.rollout');

      await world.remove('z-rhcos');
      await eventually('the MachineConfig goes', 30_000, async () =>
        (await operator.configs()).length === 0 ? true : undefined,
      );
      const { removed } = await resultOf(id);
      assert.deepEqual(removed, { machineConfigs: [config], pools: ['worker'], storageClasses: [] });
      const last = await world.events('z-rhcos');
      assert.ok(
        last.some((text) => /MachineConfigRemoved: .* reboot once more; labels and volumes stay/.test(text)),
        last.join('\n'),
      );
      await recordHistory(stack, id, 'prepareStorage.removed');
    });

    it('reboots no node for a directory that its worker cannot see, and begins when it can', async () => {
      const layer = mountContainerLayer(selinux.base);
      let unmounted = false;
      const unmount = (): void => {
        if (!unmounted) layer.unmount();
        unmounted = true;
      };
      try {
        const { id } = await create({}, join(layer.path, 'hpvolumes'));
        const cure = 'the worker there sees no disk of the node at that path: mount it';
        await awaitMessage('Degraded', new RegExp(`node z-rh1: .*${cure}.*node z-rh2: .*${cure}`));
        assert.deepEqual(await operator.configs(), []);
        unmount();
        await stack.temporal.workflow.getHandle(id).signal('wake');
        await awaitConfig();
      } finally {
        unmount();
      }
    });

    it('does not believe an Updated pool: the label is read on the node', async () => {
      const { path } = await create();
      await awaitConfig();
      await operator.render('worker');
      for (const node of NODES) await operator.finish(node, 'worker', { broken: true });
      await operator.sync('worker');
      await awaitMessage(
        'Degraded',
        /node z-rh1: directory \S+ does not exist on node z-rh1, although its MachineConfig is applied/,
      );
      // somebody repairs the node by hand
      await mkdir(path, { recursive: true });
      setLabel('system_u:object_r:container_file_t:s0', path);
      await world.awaitCondition('z-rhcos', 'Progressing', 'False');
    });

    it('takes back what it made when it is cancelled, and what an earlier run made not', async () => {
      const { id } = await create({ 'dvflow.io/storage-class': 'z-cancelled' });
      await eventually(
        'the class',
        60_000,
        async () => await storage.readStorageClass({ name: 'z-cancelled' }).catch(() => undefined),
      );
      await awaitMessage('Progressing', /does not hold/);
      await stack.temporal.workflow.getHandle(id).cancel();
      assert.ok((await failureOf(id)) instanceof CancelledFailure);
      assert.deepEqual(await operator.configs(), []);
      await assert.rejects(storage.readStorageClass({ name: 'z-cancelled' }), { code: 404 });
      await world.awaitCondition('z-rhcos', 'Degraded', 'True', 'Cancelled');
      await recordHistory(stack, id, 'prepareStorage.cancelled');

      await world.patch('z-rhcos', { metadata: { annotations: { 'dvflow.io/storage-class': null } } });
      await awaitConfig();
      await operator.rollOut('worker');
      await resultOf(id);
      await operator.setReady('z-rh1', false);
      await awaitMessage('Progressing', /node z-rh1 has rendered-\S+, but it is not Ready/);
      await stack.temporal.workflow.getHandle(id).cancel();
      await failureOf(id);
      assert.equal(
        (await operator.configs()).length,
        1,
        'nodes must not reboot because a check was cancelled',
      );
    });
  });
});
