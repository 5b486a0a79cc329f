/** Two replicas with the control role's rights keep StorageProfiles and CDIConfig on a real API server. */
import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import type { Cdi, CdiConfig } from '../../activities/kubernetes/objects.js';
import { ownVersion } from '../../workers/version.js';
import { createStorageWorld, reasonsOf, setsOf } from './storage-world.js';
import { eventually, useControlStack } from './support.js';

const HOSTPATH = 'kubevirt.io/hostpath-provisioner';

describe('storage settings, kept by two replicas', function () {
  this.timeout(60_000);
  const stack = useControlStack();
  let world: ReturnType<typeof createStorageWorld>;

  before('two replicas', async () => {
    world = createStorageWorld(stack.info.kubeconfig);
    // the API server answers 429 while it initializes a definition: not to the replicas, then
    await world.serveSnapshotClasses();
    await Promise.all([stack.startWatch({ relistMs: 5000 }), stack.startWatch({ relistMs: 5000 })]);
  });

  it('make a profile for the class that was there, and for one that appears', async () => {
    await world.kept('hostpath-provisioner', (profile) => setsOf(profile) === 'ReadWriteOnce/Filesystem');
    const name = await world.makeClass(HOSTPATH);
    const profile = await world.kept(name, () => true);
    assert.equal(setsOf(profile), 'ReadWriteOnce/Filesystem');
    const { storageClass, provisioner, cloneStrategy, dataImportCronSourceFormat } = profile.status ?? {};
    assert.deepEqual(
      { storageClass, provisioner, cloneStrategy, dataImportCronSourceFormat },
      {
        storageClass: name,
        provisioner: HOSTPATH,
        cloneStrategy: 'copy',
        dataImportCronSourceFormat: 'pvc',
      },
    );
    assert.equal('snapshotClass' in (profile.status ?? {}), false);
    assert.deepEqual(reasonsOf(profile), {
      Recognized: 'RecognizedProvisioner',
      Complete: 'ClaimPropertySetsKnown',
    });
    assert.equal(profile.metadata?.labels?.['app'], 'containerized-data-importer');
    assert.equal(profile.metadata?.labels?.['cdi.kubevirt.io'], '');
    const { uid } = (await world.storage.readStorageClass({ name })).metadata ?? {};
    assert.deepEqual(
      profile.metadata?.ownerReferences?.map((owner) => [owner.kind, owner.name, owner.uid]),
      [['StorageClass', name, uid]],
    );
  });

  it('let what an operator wrote win, keep it, and go back when it is gone', async () => {
    const name = await world.makeClass('csi.example');
    const unknown = await world.kept(name, () => true);
    assert.equal(setsOf(unknown), '');
    assert.deepEqual(reasonsOf(unknown), {
      Recognized: 'UnrecognizedProvisioner',
      Complete: 'ClaimPropertySetsUnknown',
    });
    const claimPropertySets = [{ accessModes: ['ReadWriteMany', 'ReadWriteOnce'], volumeMode: 'Block' }];
    await world.patch('storageprofiles', name, {
      metadata: { labels: { 'app.kubernetes.io/managed-by': 'Helm' } },
      spec: { claimPropertySets, cloneStrategy: 'csi-clone' },
    });
    const told = await world.kept(name, (profile) => setsOf(profile) !== '');
    assert.deepEqual(told.status?.claimPropertySets, claimPropertySets);
    assert.deepEqual(told.spec?.claimPropertySets, claimPropertySets);
    assert.equal(told.status?.cloneStrategy, 'csi-clone');
    assert.equal(told.metadata?.labels?.['app.kubernetes.io/managed-by'], 'Helm');
    assert.deepEqual(reasonsOf(told), {
      Recognized: 'UnrecognizedProvisioner',
      Complete: 'ClaimPropertySetsKnown',
    });
    await world.patch('storageprofiles', name, { spec: { claimPropertySets: null, cloneStrategy: null } });
    const back = await world.kept(name, (profile) => setsOf(profile) === '');
    assert.equal(back.status?.cloneStrategy, 'copy');
  });

  it('put right what somebody else wrote into the status, and make again what was deleted', async () => {
    const name = await world.makeClass(HOSTPATH);
    const { metadata } = await world.kept(name, () => true);
    await world.patchProfileStatus(name, { claimPropertySets: [], provisioner: 'somebody' });
    await world.kept(
      name,
      ({ status }) => status?.provisioner === HOSTPATH && status.claimPropertySets?.length === 1,
    );
    await world.remove('storageprofiles', name);
    await world.kept(name, (profile) => profile.metadata?.uid !== metadata?.uid);
  });

  it('remove a profile with its class, and keep one that was made before it', async () => {
    const name = await world.makeClass(HOSTPATH);
    await world.kept(name, () => true);
    await world.storage.deleteStorageClass({ name });
    await eventually(
      'the profile is gone',
      async () => (await world.find('storageprofiles', name)) === undefined,
    );

    const early = 'made-before-its-class';
    const set = { accessModes: ['ReadWriteOncePod'], volumeMode: 'Filesystem' };
    await world.create('storageprofiles', 'StorageProfile', early, { claimPropertySets: [set] });
    await pause(2500);
    assert.ok(await world.find('storageprofiles', early), 'waits for its class');
    await world.makeClass(HOSTPATH, early);
    assert.equal(setsOf(await world.kept(early, () => true)), 'ReadWriteOncePod/Filesystem');
  });

  it('follow the volumes of a class whose volumes an administrator makes', async () => {
    const name = await world.makeClass('kubernetes.io/no-provisioner');
    assert.equal(setsOf(await world.kept(name, () => true)), '');
    const volume = `v-${name}`;
    await stack.core.createPersistentVolume({
      body: {
        metadata: { name: volume },
        spec: {
          storageClassName: name,
          capacity: { storage: '1Gi' },
          accessModes: ['ReadWriteOnce', 'ReadWriteMany'],
          volumeMode: 'Block',
          hostPath: { path: '/nowhere' },
        },
      },
    });
    const two = await world.kept(name, (profile) => setsOf(profile) !== '');
    assert.equal(setsOf(two), 'ReadWriteOnce/Block ReadWriteMany/Block');
    await stack.core.deletePersistentVolume({ name: volume });
    await world.kept(name, (profile) => setsOf(profile) === '');
  });

  it('name the snapshot class where the cluster serves one of the driver', async () => {
    const driver = 'rook-ceph.rbd.csi.ceph.com';
    await world.makeSnapshotClass('ceph', driver);
    const name = await world.makeClass(driver);
    const { status } = await world.kept(name, ({ status: found }) => found?.snapshotClass !== undefined);
    assert.deepEqual(
      [status?.snapshotClass, status?.cloneStrategy, status?.dataImportCronSourceFormat],
      ['ceph', 'csi-clone', 'snapshot'],
    );
  });

  it("compute CDIConfig's status from its specification and the classes that exist", async () => {
    const config = await world.configured('the first status', ({ status }) =>
      Boolean(status?.filesystemOverhead?.storageClass?.['hostpath-provisioner']),
    );
    assert.deepEqual(config.spec?.featureGates, ['HonorWaitForFirstConsumer']);
    assert.equal(config.status?.filesystemOverhead?.global, '0.06');
    assert.equal(config.status?.scratchSpaceStorageClass, '');
    assert.deepEqual(config.status?.defaultPodResourceRequirements?.limits, { cpu: '750m', memory: '600M' });

    const name = await world.makeClass(HOSTPATH);
    const filesystemOverhead = { global: '0.1', storageClass: { [name]: '0.25' } };
    await world.patch('cdiconfigs', 'config', {
      spec: { scratchSpaceStorageClass: name, filesystemOverhead },
    });
    const told = await world.configured(
      'the new status',
      ({ status }) => status?.scratchSpaceStorageClass === name,
    );
    assert.equal(told.status?.filesystemOverhead?.storageClass?.[name], '0.25');
    assert.equal(told.status?.filesystemOverhead?.storageClass?.['hostpath-provisioner'], '0.1');
    await world.storage.deleteStorageClass({ name });
    const without = await world.configured(
      'the class is gone',
      ({ status }) => status?.scratchSpaceStorageClass === '',
    );
    assert.equal(without.spec?.scratchSpaceStorageClass, name);
    assert.equal(without.status?.filesystemOverhead?.storageClass?.[name], undefined);
    await world.patch('cdiconfigs', 'config', {
      spec: { scratchSpaceStorageClass: null, filesystemOverhead: null },
    });
    await world.configured(
      'the defaults again',
      ({ status }) => status?.filesystemOverhead?.global === '0.06',
    );
  });

  it('let a CDI take over what was configured, follow its edits, and undo those beside it', async () => {
    await world.create('cdis', 'CDI', 'cdi', {});
    const taken = await eventually('the CDI has the authority', async () => {
      const cdi = await world.find<{ metadata: { annotations?: object }; spec?: { config?: object } }>(
        'cdis',
        'cdi',
      );
      return 'cdi.kubevirt.io/configAuthority' in (cdi?.metadata.annotations ?? {}) ? cdi : undefined;
    });
    assert.deepEqual(taken.spec?.config, { featureGates: ['HonorWaitForFirstConsumer'] });
    const told = await eventually('the CDI is told to be deployed', async () => {
      const cdi = await world.find<Cdi>('cdis', 'cdi');
      return cdi?.status?.phase === 'Deployed' ? cdi.status : undefined;
    });
    assert.deepEqual(
      told.conditions?.map(({ type, status, reason }) => [type, status, reason]),
      [
        ['Available', 'True', 'DeployCompleted'],
        ['Progressing', 'False', undefined],
        ['Degraded', 'False', undefined],
      ],
    );
    assert.equal(told.observedVersion, ownVersion());

    await world.patch('cdis', 'cdi', {
      spec: { config: { preallocation: true, insecureRegistries: ['r:5000'] } },
    });
    const followed = await world.configured(
      'the edit of the CDI',
      ({ status }) => status?.preallocation === true,
    );
    assert.deepEqual(followed.spec, {
      featureGates: ['HonorWaitForFirstConsumer'],
      preallocation: true,
      insecureRegistries: ['r:5000'],
    });
    await world.patch('cdiconfigs', 'config', { spec: { preallocation: false, logVerbosity: 3 } });
    await world.configured('the edit beside the CDI is undone', ({ spec }) => {
      return spec?.preallocation === true && !('logVerbosity' in spec);
    });

    await world.remove('cdis', 'cdi');
    await pause(1500);
    await world.patch('cdiconfigs', 'config', { spec: { preallocation: false, insecureRegistries: null } });
    await world.configured('CDIConfig rules again', ({ status }) => status?.preallocation === false);
    await pause(1500);
    const { spec } = await world.configured('and stays', () => true);
    assert.deepEqual(spec, { featureGates: ['HonorWaitForFirstConsumer'], preallocation: false });
  });

  it('make CDIConfig where there is none', async () => {
    const before = await world.find<CdiConfig>('cdiconfigs', 'config');
    await world.remove('cdiconfigs', 'config');
    const made = await world.configured(
      'another CDIConfig',
      ({ metadata }) => metadata?.uid !== before?.metadata?.uid,
    );
    assert.equal(made.metadata?.labels?.['app'], 'containerized-data-importer');
  });

  it('come to rest, and had every right that they needed', async () => {
    await pause(2500);
    const before = await world.versions();
    // longer than another list of everything takes to come
    await pause(6000);
    assert.deepEqual(await world.versions(), before);
    const warned = stack.log.filter(({ level }) => level === 'WARN' || level === 'ERROR');
    assert.deepEqual(
      warned.filter(({ message }) => message === 'will be tried again'),
      [],
    );
  });
});
