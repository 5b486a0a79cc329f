import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createKubernetes, loadKubeConfig } from '../../../activities/kubernetes/client.js';
import { createPreparationActivities } from '../../../activities/kubernetes/preparation/index.js';
import type { PreparationControlActivities } from '../../../activities/preparation-interfaces.js';
import type {
  MachineConfigsResult,
  PoolRollout,
  ProvisionerFacts,
} from '../../../activities/types/preparation.js';
import { isRoot } from '../../node/support.js';
import { labelOf } from '../../node/preparation/selinux-world.js';
import { createMachineConfigOperator, type MachineConfigOperator } from '../../support/openshift/operator.js';
import { useControlPlane } from '../support/control-plane.js';
import { act, rejects } from '../support/fixtures.js';

const CRDS = fileURLToPath(new URL('../../support/openshift/crds.yaml', import.meta.url));
const PROVISIONERS = {
  group: 'hostpathprovisioner.kubevirt.io',
  version: 'v1beta1',
  plural: 'hostpathprovisioners',
} as const;
const NODES = ['w1', 'w2', 'both', 'i1', 'lost'];
const WORKER = '50-set-selinux-for-hpp-worker';

describe('MachineConfigs on a real API server, the operator played', function () {
  this.timeout(60_000);
  const plane = useControlPlane();
  let operator: MachineConfigOperator;
  let activities: PreparationControlActivities;
  let base: string;
  let provisioner: ProvisionerFacts;

  before('a cluster of OpenShift', async () => {
    await plane().kubectl('apply', '-f', CRDS);
    const kubernetes = createKubernetes(plane().control);
    const { temporal, info } = plane();
    activities = createPreparationActivities({
      kubernetes,
      temporal,
      temporalNamespace: 'default',
      pollMs: 100,
    });
    operator = createMachineConfigOperator(loadKubeConfig(info.kubeconfig));
    await operator.awaitKinds();
  });
  after(async () => {
    await plane().kubectl('delete', '-f', CRDS);
  });
  beforeEach(async () => {
    base = mkdtempSync(join(tmpdir(), 'dvflow-rhcos-'));
    provisioner = {
      name: 'hpp',
      uid: '11111111-2222-3333-4444-555555555555',
      generation: 1,
      directories: [{ pool: 'legacy', path: join(base, 'hpvolumes') }],
      storageClasses: [],
      deadlineMs: 1000,
    };
    for (const [name, roles] of Object.entries({
      master: ['master'],
      worker: ['worker'],
      infra: ['worker', 'infra'],
    }))
      await operator.addPool(name, roles);
    for (const [name, roles] of Object.entries({
      w1: ['worker'],
      w2: ['worker'],
      both: ['worker', 'master'],
      i1: ['worker', 'infra'],
    }))
      await operator.addNode(name, roles);
    for (const pool of ['master', 'worker', 'infra']) await operator.rollOut(pool);
  });
  afterEach(async () => {
    await operator.removeAll(NODES);
    rmSync(base, { recursive: true, force: true });
  });

  const ensure = async (nodes: readonly string[], facts = provisioner): Promise<MachineConfigsResult> =>
    await activities.ensureMachineConfigs({ provisioner: facts, nodes });
  const look = async (
    configs: MachineConfigsResult['configs'],
    known?: readonly PoolRollout[],
    waitMs = 5_000,
  ): Promise<readonly PoolRollout[]> =>
    await act(
      (input: Parameters<typeof activities.awaitRollout>[0]) => activities.awaitRollout(input),
      [{ configs, waitMs, ...(known ? { known } : {}) }],
    );
  const states = (rollouts: readonly PoolRollout[]): readonly string[] =>
    rollouts.map(({ pool, state }) => `${pool} ${state}`);
  const names = async (): Promise<readonly string[]> =>
    (await operator.configs()).map(({ metadata }) => metadata.name);

  it('knows the cluster by its API, and RHCOS by its nodes', async () => {
    assert.deepEqual((await activities.selectNodes({ provisioner })).gone, true, 'there is no such object');
    const { custom } = createKubernetes(loadKubeConfig(plane().info.kubeconfig));
    const { name } = provisioner;
    const body = { apiVersion: 'hostpathprovisioner.kubevirt.io/v1beta1', kind: 'HostPathProvisioner' };
    const spec = { pathConfig: { path: join(base, 'hpvolumes') } };
    const made = (await custom.createClusterCustomObject({
      ...PROVISIONERS,
      body: { ...body, metadata: { name }, spec },
    })) as { metadata: { uid: string } };
    const living = { ...provisioner, uid: made.metadata.uid };
    const { selected, machineConfigs } = await activities
      .selectNodes({ provisioner: living })
      .finally(() => custom.deleteClusterCustomObject({ ...PROVISIONERS, name }));
    assert.equal(machineConfigs, true);
    const by = new Map(selected.map(({ node, labelledBy }) => [node, labelledBy]));
    assert.deepEqual(
      [by.get('w1'), by.get('both'), by.get(plane().info.node)],
      ['machineConfig', 'machineConfig', 'node'],
    );
  });

  it('makes one for each role that is needed, whoever asks how often', async () => {
    const all = await Promise.all([1, 2, 3].map(() => ensure(['w1', 'both']).catch(() => undefined)));
    const { configs } = await ensure(['w1', 'both']);
    assert.deepEqual(
      configs.map(({ name, pools }) => [name, pools]),
      [
        ['50-set-selinux-for-hpp-master', ['master']],
        [WORKER, ['worker']],
      ],
    );
    assert.deepEqual(
      await names(),
      configs.map(({ name }) => name),
    );
    const created = all.flatMap((one) => one?.configs ?? []).filter((one) => one.created);
    assert.ok(created.length <= 2, JSON.stringify(created));
  });

  it('reaches a custom pool by the role that it inherits, or by its own where only it is meant', async () => {
    const both = await ensure(['w1', 'i1']);
    assert.deepEqual(
      both.configs.map(({ name, pools }) => [name, pools]),
      [[WORKER, ['worker', 'infra']]],
    );
    const alone = await ensure(['i1']);
    assert.deepEqual(
      alone.configs.map(({ name, pools }) => [name, pools]),
      [['50-set-selinux-for-hpp-infra', ['infra']]],
    );
    assert.deepEqual(
      await names(),
      ['50-set-selinux-for-hpp-infra'],
      'the one that nobody needs any more is gone',
    );
  });

  it('says which nodes no MachineConfig reaches, and why', async () => {
    await operator.addNode('lost', ['storage']);
    const { unreachable, configs } = await ensure(['lost', 'gone', 'w1']);
    assert.deepEqual(unreachable, { lost: 'no MachineConfigPool selects it', gone: 'it is gone' });
    assert.equal(configs.length, 1);
  });

  for (const ignition of ['2.2.0', '3.1.0', '3.2.0']) {
    it(`writes Ignition ${ignition} for a cluster that renders it`, async () => {
      await operator.removeAll([]);
      const older = createMachineConfigOperator(loadKubeConfig(plane().info.kubeconfig), ignition);
      await older.addPool('worker');
      await ensure(['w1']);
      const [config] = await older.configs();
      assert.equal(config?.spec?.config?.ignition?.version, ignition);
    });
  }

  it('follows a rollout through every state, races included', async function () {
    if (!isRoot) return this.skip();
    const path = provisioner.directories[0]!.path;
    const { configs } = await ensure(['w1']);
    let now = await look(configs);
    // the pool says Updated, of the configuration before
    assert.deepEqual(states(now), ['worker rendering']);
    const target = await operator.render('worker');
    now = await look(configs, now);
    assert.match(
      now[0]!.message,
      new RegExp(`the operator has not looked at ${target} yet; 0 of 2 nodes done`),
    );
    await operator.sync('worker');
    now = await look(configs, now);
    assert.match(
      now[0]!.message,
      /0 of 2 nodes done; node w1 waits for its turn; node w2 waits for its turn/,
    );
    await operator.begin('w1', 'worker');
    now = await look(configs, now);
    assert.match(now[0]!.message, /node w1 is at work: it is not Ready since /);
    await operator.finish('w1', 'worker');
    now = await look(configs, now);
    assert.deepEqual([now[0]!.state, now[0]!.done], ['updating', ['w1']]);
    assert.equal(labelOf(path), 'system_u:object_r:container_file_t:s0', 'the unit has run');
    await operator.begin('w2', 'worker', 'Degraded', 'unexpected on-disk state');
    now = await look(configs, now);
    assert.deepEqual(states(now), ['worker degraded']);
    assert.match(now[0]!.message, /node w2 is degraded: unexpected on-disk state/);
    await operator.finish('w2', 'worker');
    now = await look(configs, now);
    assert.match(now[0]!.message, /2 of 2 nodes done; the operator does not say Updated yet/);
    await operator.sync('worker');
    now = await look(configs, now);
    assert.deepEqual([states(now), now[0]!.done], [['worker done'], ['w1', 'w2']]);
    const startedAt = Date.now();
    assert.deepEqual(await look(configs, now, 500), now, 'nothing changes');
    assert.ok(Date.now() - startedAt >= 500);
  });

  it('believes no Updated after a change either: the new directory must be in what is rendered', async () => {
    const { configs } = await ensure(['w1']);
    await operator.rollOut('worker');
    assert.deepEqual(states(await look(configs)), ['worker done']);
    const moved = { ...provisioner, directories: [{ pool: 'legacy', path: join(base, 'moved') }] };
    const changed = await ensure(['w1'], moved);
    assert.equal(changed.configs[0]?.created, false);
    const now = await look(changed.configs);
    assert.deepEqual([states(now), now[0]?.done], [['worker rendering'], []]);
    await operator.rollOut('worker');
    assert.deepEqual(states(await look(changed.configs, now)), ['worker done']);
  });

  it('tells a paused pool, and a configuration that cannot be rendered', async () => {
    await operator.patchPool('worker', { spec: { paused: true } });
    const { configs } = await ensure(['w1']);
    await operator.render('worker');
    await operator.sync('worker');
    assert.deepEqual(states(await look(configs)), ['worker paused']);
    await operator.patchPool('worker', { spec: { paused: false } });
    await operator.sync('worker', [
      { type: 'RenderDegraded', status: 'True', message: 'invalid Ignition config found' },
    ]);
    assert.match((await look(configs))[0]!.message, /cannot be rendered: invalid Ignition config found/);
  });

  it("takes an administrator's that does the same for good, and touches it never", async () => {
    const path = provisioner.directories[0]!.path;
    const contents = `[Service]\nExecStart=/usr/bin/chcon -Rt container_file_t ${path}\n`;
    const units = [{ name: 'hostpath-provisioner.service', enabled: true, contents }];
    await operator.create({
      kind: 'MachineConfig',
      metadata: {
        name: '50-set-selinux-for-hostpath-provisioner',
        labels: { 'machineconfiguration.openshift.io/role': 'worker' },
      },
      spec: { config: { ignition: { version: '2.2.0' }, systemd: { units } } },
    });
    const { configs } = await ensure(['w1']);
    assert.deepEqual(configs, [
      { name: '50-set-selinux-for-hostpath-provisioner', pools: ['worker'], created: false, foreign: true },
    ]);
    await activities.removePreparation({ provisioner });
    assert.deepEqual(await names(), ['50-set-selinux-for-hostpath-provisioner']);
  });

  it("does not silently replace an administrator's unit for another directory", async () => {
    const units = [
      {
        name: 'hostpath-provisioner.service',
        enabled: true,
        contents: '[Service]\nExecStart=/usr/bin/chcon -Rt container_file_t /var/old\n',
      },
    ];
    const documented = '50-set-selinux-for-hostpath-provisioner';
    await operator.create({
      kind: 'MachineConfig',
      metadata: { name: documented, labels: { 'machineconfiguration.openshift.io/role': 'worker' } },
      spec: { config: { ignition: { version: '2.2.0' }, systemd: { units } } },
    });
    await rejects(
      ensure(['w1'], { ...provisioner, name: 'hostpath-provisioner' }),
      'ResourceExists',
      new RegExp(`MachineConfig ${documented} has the unit hostpath-provisioner.service too`),
    );
    assert.deepEqual(await names(), [documented]);
  });

  it('knows what an attempt of the same run has made, of which nobody heard', async () => {
    const inRun = async (runId: string): Promise<readonly boolean[]> => {
      const { configs } = await act(
        (input: Parameters<typeof activities.ensureMachineConfigs>[0]) =>
          activities.ensureMachineConfigs(input),
        [{ provisioner, nodes: ['w1', 'both'] }],
        { runId },
      );
      return configs.map(({ created }) => created);
    };
    assert.deepEqual(await inRun('run-1'), [true, true]);
    assert.deepEqual(await inRun('run-1'), [true, true], 'the answer of the first attempt was lost');
    assert.deepEqual(await inRun('run-2'), [false, false]);
    const nothingKnown = { machineConfigs: [], storageClasses: [] };
    const cancel = async (runId: string): Promise<readonly string[]> =>
      (
        await act(
          (input: Parameters<typeof activities.removePreparation>[0]) => activities.removePreparation(input),
          [{ provisioner, only: nothingKnown }],
          { runId },
        )
      ).machineConfigs;
    assert.deepEqual(await cancel('run-2'), []);
    assert.deepEqual(await cancel('run-1'), ['50-set-selinux-for-hpp-master', WORKER]);
  });

  it("leaves somebody's copy of one under another name alone", async () => {
    await ensure(['w1']);
    const [made] = await operator.configs();
    assert.ok(made);
    const { labels = {}, annotations = {} } = made.metadata;
    await operator.create({
      kind: 'MachineConfig',
      metadata: { name: '60-mine', labels, annotations },
      spec: made.spec ?? {},
    });
    await ensure(['w1']);
    assert.deepEqual(await names(), [WORKER, '60-mine']);
    assert.deepEqual((await activities.removePreparation({ provisioner })).machineConfigs, [WORKER]);
    assert.deepEqual(await names(), ['60-mine']);
  });

  it('keeps what it made for a pool whose nodes are tainted for a while, and makes nothing for tainted ones', async () => {
    const tainted = async (nodes: readonly string[]): Promise<MachineConfigsResult> =>
      await activities.ensureMachineConfigs({ provisioner, nodes, repelled: ['w1', 'w2'] });
    assert.deepEqual([(await tainted([])).configs, await names()], [[], []]);
    await ensure(['w1']);
    assert.deepEqual([(await tainted([])).configs, await names()], [[], [WORKER]]);
    await ensure([]);
    assert.deepEqual(await names(), [], 'the placement itself says otherwise');
  });

  it("refuses somebody else's object of the same name", async () => {
    await operator.create({
      kind: 'MachineConfig',
      metadata: { name: WORKER, labels: { 'machineconfiguration.openshift.io/role': 'worker' } },
      spec: { config: { ignition: { version: '2.2.0' } } },
    });
    await rejects(
      ensure(['w1']),
      'ResourceExists',
      /MachineConfig 50-set-selinux-for-hpp-worker exists and does not label/,
    );
  });

  it('takes over what a HostPathProvisioner of this name had, without another reboot', async () => {
    const { configs } = await ensure(['w1']);
    await operator.rollOut('worker');
    const again = await ensure(['w1'], { ...provisioner, uid: '99999999-2222-3333-4444-555555555555' });
    assert.equal(again.configs[0]?.created, false);
    assert.deepEqual(states(await look(configs)), ['worker done']);
    assert.deepEqual(
      (await activities.removePreparation({ provisioner })).machineConfigs,
      [],
      'it is not the old one any more',
    );
    assert.deepEqual(await names(), [WORKER]);
  });

  it('removes what it made, and names the pools that roll out once more', async () => {
    await ensure(['w1', 'both']);
    await operator.rollOut('worker');
    await operator.rollOut('master');
    const only = { machineConfigs: [WORKER], storageClasses: [] };
    assert.deepEqual(await activities.removePreparation({ provisioner, only }), {
      machineConfigs: [WORKER],
      pools: ['worker'],
      storageClasses: [],
    });
    const rest = await activities.removePreparation({ provisioner });
    assert.deepEqual([rest.machineConfigs, rest.pools], [['50-set-selinux-for-hpp-master'], ['master']]);
    assert.deepEqual((await activities.removePreparation({ provisioner })).machineConfigs, []);
    assert.deepEqual(await names(), []);
  });
});
