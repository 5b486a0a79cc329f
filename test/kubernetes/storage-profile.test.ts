import assert from 'node:assert/strict';
import type { V1StorageClass } from '@kubernetes/client-node';
import {
  KNOWN_ACCESS_MODES,
  KNOWN_VOLUME_MODES,
  offeredSets,
} from '../../activities/kubernetes/claim-property-sets.js';
import type { StorageProfile } from '../../activities/kubernetes/objects.js';
import { PROVISIONER_KEYS, provisionerFacts } from '../../activities/kubernetes/provisioner-table.js';
import { recognise } from '../../activities/kubernetes/provisioner-variants.js';
import { sizeBytes } from '../../activities/kubernetes/quantity.js';
import {
  isIncomplete,
  profileAnnotations,
  profileStatus,
} from '../../activities/kubernetes/storage-profile.js';
import type { ProfileFacts } from '../../activities/kubernetes/storage-profile.js';

const HOSTPATH = 'kubevirt.io/hostpath-provisioner';
const NOW = new Date('2026-01-02T03:04:05.678Z');

const classOf = (provisioner: string, parameters = {}, annotations = {}): V1StorageClass => ({
  metadata: { name: 'c', annotations },
  provisioner,
  parameters,
});
const factsFor = (storageClass: V1StorageClass, more: Partial<ProfileFacts> = {}): ProfileFacts => ({
  storageClass,
  volumes: [],
  snapshotClasses: [],
  now: NOW,
  ...more,
});
/** `RWO/Filesystem`, as CDI's own documents and table abbreviate it. */
const brief = (storageClass: V1StorageClass): string =>
  offeredSets(storageClass, undefined, [])
    .map(({ accessModes = [], volumeMode }) => `${accessModes.join().replace(/[a-z]/g, '')}/${volumeMode}`)
    .join(' ');

describe('the table of provisioners', () => {
  it('names modes and sizes that exist, no set twice', () => {
    for (const key of PROVISIONER_KEYS) {
      const { minimumSize } = provisionerFacts(key) ?? {};
      if (minimumSize) assert.ok(sizeBytes(minimumSize, key) > 0);
      const sets = offeredSets(classOf(key), undefined, []);
      if (key.split('/').length === 1) assert.ok(sets.length > 0 || recognise(classOf(key)), key);
      for (const { accessModes, volumeMode } of sets) {
        assert.ok(KNOWN_VOLUME_MODES.includes(volumeMode ?? ''), key);
        assert.ok(
          accessModes?.every((mode) => KNOWN_ACCESS_MODES.includes(mode)),
          key,
        );
      }
      assert.equal(new Set(sets.map((set) => JSON.stringify(set))).size, sets.length, key);
    }
  });

  /** Rows of CDI's table, read there by hand. */
  const rows: readonly [provisioner: string, parameters: Record<string, string>, sets: string][] = [
    [HOSTPATH, {}, 'RWO/Filesystem'],
    ['kubevirt.io.hostpath-provisioner', { storagePool: 'p' }, 'RWO/Filesystem'],
    ['kubevirt.io.hostpath-provisioner', { overlayCSI: '' }, 'RWM/Filesystem'],
    ['nfs.csi.k8s.io', {}, 'RWM/Filesystem'],
    ['rook-ceph.rbd.csi.ceph.com', {}, 'RWM/Block RWO/Block RWO/Filesystem'],
    ['openshift-storage.cephfs.csi.ceph.com', {}, 'RWM/Filesystem RWO/Filesystem'],
    ['linstor.csi.linbit.com', {}, 'RWM/Block RWO/Block RWO/Filesystem ROM/Block ROM/Filesystem'],
    ['csi-powermax.dellemc.com', {}, 'RWM/Block RWO/Block RWO/Filesystem ROM/Block'],
    [
      'csi-powermax.dellemc.com',
      { 'csi.storage.k8s.io/fstype': 'NFS' },
      'RWM/Filesystem RWO/Filesystem ROM/Filesystem',
    ],
    ['csi-unity.dellemc.com', { protocol: 'NFS' }, 'RWM/Filesystem RWO/Filesystem ROM/Filesystem'],
    ['ebs.csi.aws.com', { type: 'gp3' }, 'RWO/Block'],
    ['ebs.csi.aws.com', { type: 'io2' }, 'RWM/Block RWO/Block RWO/Filesystem'],
    ['pd.csi.storage.gke.io', { type: 'pd-ssd' }, 'RWO/Block RWO/Filesystem'],
    ['pd.csi.storage.gke.io', { type: 'hyperdisk-balanced' }, 'RWM/Block RWO/Block RWO/Filesystem'],
    ['topolvm.io', {}, 'RWO/Block RWO/Filesystem'],
    ['driver.longhorn.io', {}, 'RWO/Block'],
    ['driver.longhorn.io', { migratable: 'true', fsType: 'ext4' }, 'RWM/Block RWO/Block'],
    ['driver.longhorn.io', { nfsOptions: 'vers=4.2' }, 'RWM/Filesystem RWO/Filesystem'],
    ['driver.longhorn.io', { fsType: 'ext4' }, 'RWO/Filesystem'],
    ['pxd.portworx.com', {}, 'RWM/Block RWM/Filesystem RWO/Block RWO/Filesystem'],
    ['pxd.portworx.com', { sharedv4_mount_options: 'vers=3.0,nolock' }, 'RWM/Filesystem RWO/Filesystem'],
    ['pxd.portworx.com', { backend: 'pure_block' }, 'RWM/Block RWO/Block RWO/Filesystem'],
    ['csi.trident.netapp.io', { backendType: 'ontap-nas-economy' }, 'RWM/Filesystem RWO/Filesystem'],
    ['csi.trident.netapp.io', { backendType: 'ontap-san' }, 'RWM/Block'],
    [
      'csi.trident.netapp.io',
      { backendType: 'google-cloud-netapp-volumes', selector: 'a=b ; performance=flex' },
      'RWM/Filesystem RWO/Filesystem',
    ],
    ['csi.trident.netapp.io', {}, ''],
    ['infinibox-csi-driver', { storage_protocol: 'fc' }, 'RWM/Block RWO/Block RWO/Filesystem'],
    ['infinibox-csi-driver', { storage_protocol: 'nfs_treeq' }, 'RWM/Filesystem RWO/Filesystem'],
    ['infinibox-csi-driver', {}, ''],
    [
      'csi.vsphere.vmware.com',
      { 'csi.storage.k8s.io/fstype': 'nfs4' },
      'RWM/Filesystem RWO/Block RWO/Filesystem',
    ],
    ['csi.san.synology.com', {}, 'RWM/Block RWO/Block RWO/Filesystem'],
    ['csi.san.synology.com', { protocol: 'smb' }, 'RWM/Filesystem RWO/Filesystem'],
    ['csi.san.synology.com', { protocol: 'ftp' }, ''],
    ['vpc.file.csi.ibm.io', { profile: 'dp2', vmState: 'true' }, 'RWO/Filesystem'],
    ['vpc.file.csi.ibm.io', { profile: 'rfs' }, 'RWM/Filesystem RWO/Filesystem'],
    ['csi.huawei.com', { protocol: 'nfs' }, 'RWM/Filesystem RWO/Filesystem ROM/Filesystem'],
    ['csi.example', {}, ''],
  ];
  for (const [provisioner, parameters, sets] of rows) {
    it(`${provisioner} ${JSON.stringify(parameters)}: ${sets || 'nothing'}`, () => {
      assert.equal(brief(classOf(provisioner, parameters)), sets);
    });
  }

  it('tells an unknown provisioner from unknown parameters', () => {
    const reason = (provisioner: string) => recognise(classOf(provisioner)).reason;
    assert.equal(reason('csi.example'), 'UnrecognizedProvisioner');
    assert.equal(reason('csi.trident.netapp.io'), 'UnrecognizedStorageClassParameters');
    assert.equal(reason(HOSTPATH), 'RecognizedProvisioner');
    assert.equal(reason('kubernetes.io/no-provisioner'), 'RecognizedProvisioner');
  });
});

describe('a StorageProfile', () => {
  it('says of the hostpath class what is true', () => {
    assert.deepEqual(profileStatus(factsFor(classOf(HOSTPATH))), {
      storageClass: 'c',
      provisioner: HOSTPATH,
      claimPropertySets: [{ accessModes: ['ReadWriteOnce'], volumeMode: 'Filesystem' }],
      cloneStrategy: 'copy',
      dataImportCronSourceFormat: 'pvc',
      conditions: [
        {
          type: 'Recognized',
          status: 'True',
          reason: 'RecognizedProvisioner',
          message: 'Provisioner is recognized',
          lastTransitionTime: '2026-01-02T03:04:05Z',
          lastHeartbeatTime: '2026-01-02T03:04:05Z',
        },
        {
          type: 'Complete',
          status: 'True',
          reason: 'ClaimPropertySetsKnown',
          message: 'What claims may ask for is known',
          lastTransitionTime: '2026-01-02T03:04:05Z',
          lastHeartbeatTime: '2026-01-02T03:04:05Z',
        },
      ],
    });
  });

  it('stays what it is while nothing changes, and keeps the time of what did not', () => {
    const first = profileStatus(factsFor(classOf('csi.example')));
    const later = { now: new Date('2027-01-01T00:00:00Z') };
    const again = profileStatus(factsFor(classOf('csi.example'), { profile: { status: first }, ...later }));
    assert.deepEqual(again, first);
    const spec = { claimPropertySets: [{ accessModes: ['ReadWriteOnce'], volumeMode: 'Block' }] };
    const told = profileStatus(
      factsFor(classOf('csi.example'), { profile: { spec, status: first }, ...later }),
    );
    assert.deepEqual(told.claimPropertySets, spec.claimPropertySets);
    assert.deepEqual(
      told.conditions?.map(({ type, status, lastTransitionTime }) => [type, status, lastTransitionTime]),
      [
        ['Recognized', 'False', '2026-01-02T03:04:05Z'],
        ['Complete', 'True', '2027-01-01T00:00:00Z'],
      ],
    );
  });

  const snapshots = (...names: string[]) =>
    names.map((name) => ({
      driver: 'rook-ceph.rbd.csi.ceph.com',
      metadata: {
        name,
        ...(name === 'standard'
          ? { annotations: { 'snapshot.storage.kubernetes.io/is-default-class': 'true' } }
          : {}),
      },
    }));
  const strategies: readonly [what: string, facts: ProfileFacts, expected: object][] = [
    [
      'by snapshot where there is a class for it',
      factsFor(classOf('linstor.csi.linbit.com'), {
        snapshotClasses: [{ metadata: { name: 's' }, driver: 'linstor.csi.linbit.com' }],
      }),
      { cloneStrategy: 'snapshot', dataImportCronSourceFormat: 'pvc', snapshotClass: 's' },
    ],
    [
      'by copying where there is none, whatever the table prefers',
      factsFor(classOf('csi.trident.netapp.io', { backendType: 'ontap-nas' })),
      { cloneStrategy: 'copy', dataImportCronSourceFormat: 'pvc' },
    ],
    [
      'as the table prefers, with the first snapshot class by name',
      factsFor(classOf('rook-ceph.rbd.csi.ceph.com'), {
        snapshotClasses: [...snapshots('b', 'a'), { metadata: { name: '0' }, driver: 'other' }],
      }),
      { cloneStrategy: 'csi-clone', dataImportCronSourceFormat: 'snapshot', snapshotClass: 'a' },
    ],
    [
      'with the default snapshot class',
      factsFor(classOf('rook-ceph.rbd.csi.ceph.com'), { snapshotClasses: snapshots('a', 'standard') }),
      { cloneStrategy: 'csi-clone', dataImportCronSourceFormat: 'snapshot', snapshotClass: 'standard' },
    ],
    [
      'as an operator wrote, with the snapshot class that they named',
      factsFor(classOf('rook-ceph.rbd.csi.ceph.com'), {
        snapshotClasses: snapshots('a', 'standard'),
        profile: {
          spec: { cloneStrategy: 'snapshot', snapshotClass: 'a', dataImportCronSourceFormat: 'pvc' },
        },
      }),
      { cloneStrategy: 'snapshot', dataImportCronSourceFormat: 'pvc', snapshotClass: 'a' },
    ],
    [
      "as the class's annotation says",
      factsFor(classOf('rook-ceph.rbd.csi.ceph.com', {}, { 'cdi.kubevirt.io/clone-strategy': 'copy' })),
      { cloneStrategy: 'copy', dataImportCronSourceFormat: 'pvc' },
    ],
    [
      "with no snapshot class where the named one is another driver's",
      factsFor(classOf(HOSTPATH), {
        snapshotClasses: snapshots('a'),
        profile: { spec: { snapshotClass: 'a' } },
      }),
      { cloneStrategy: 'copy', dataImportCronSourceFormat: 'pvc' },
    ],
  ];
  for (const [what, facts, expected] of strategies) {
    it(`clones ${what}`, () => {
      const { cloneStrategy, dataImportCronSourceFormat, ...rest } = profileStatus(facts);
      const { snapshotClass } = rest;
      const said = {
        cloneStrategy,
        dataImportCronSourceFormat,
        ...('snapshotClass' in rest ? { snapshotClass } : {}),
      };
      assert.deepEqual(said, expected);
    });
  }

  it('is annotated with the smallest claim', () => {
    const gp = classOf('ebs.csi.aws.com', { type: 'gp3' });
    const annotation = 'cdi.kubevirt.io/minimumSupportedPvcSize';
    assert.deepEqual(profileAnnotations(factsFor(gp)), { [annotation]: '1Gi' });
    assert.deepEqual(profileAnnotations(factsFor(classOf(HOSTPATH))), {});
  });

  it('is incomplete where disks may lie and nothing is known of them', () => {
    const profileOf = (provisioner: string, spec = {}): StorageProfile => ({
      status: profileStatus(factsFor(classOf(provisioner), { profile: { spec } })),
    });
    assert.equal(isIncomplete(profileOf('csi.example')), true);
    assert.equal(isIncomplete(profileOf(HOSTPATH)), false);
    assert.equal(isIncomplete(profileOf('kubernetes.io/no-provisioner')), false);
    assert.equal(isIncomplete(profileOf('openshift-storage.noobaa.io/obc')), false);
    const told = { claimPropertySets: [{ accessModes: ['ReadWriteOnce'], volumeMode: 'Block' }] };
    assert.equal(isIncomplete(profileOf('csi.example', told)), false);
    const nothing = profileOf('csi.example', {
      claimPropertySets: [{ accessModes: [], volumeMode: 'Block' }],
    });
    assert.equal(isIncomplete(nothing), true);
    assert.match(nothing.status?.conditions?.[1]?.message ?? '', /holds no set with access modes/);
    assert.match(
      profileOf('csi.example').status?.conditions?.[1]?.message ?? '',
      /nothing is known of provisioner csi.example .*: set spec.claimPropertySets/,
    );
  });
});
