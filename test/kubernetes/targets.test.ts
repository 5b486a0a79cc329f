import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { V1PersistentVolume, V1StorageClass } from '@kubernetes/client-node';
import { createKubernetes } from '../../activities/kubernetes/client.js';
import type { Kubernetes } from '../../activities/kubernetes/client.js';
import type { DataVolume } from '../../activities/kubernetes/objects.js';
import { refuseMatchingVolume } from '../../activities/kubernetes/static-volumes.js';
import { createClaimPlanner, createTargetActivities, plan } from '../../activities/kubernetes/targets.js';
import type { TargetFacts } from '../../activities/kubernetes/targets.js';
import type { FailureType } from '../../activities/types.js';
import { failureTypeOf } from '../../activities/failures.js';
import { useControlPlane } from './support/control-plane.js';
import {
  act,
  createDataVolume,
  makeNamespace,
  manifest,
  POOL,
  refOf,
  rejects,
  TARGET,
} from './support/fixtures.js';

const HOSTPATH: V1StorageClass = {
  metadata: { name: 'hostpath' },
  provisioner: 'kubevirt.io/hostpath-provisioner',
  reclaimPolicy: 'Delete',
  volumeBindingMode: 'Immediate',
};

function factsFor(spec: object, more: Partial<TargetFacts> = {}, annotations = {}): TargetFacts {
  const dataVolume = {
    apiVersion: 'cdi.kubevirt.io/v1beta1',
    kind: 'DataVolume',
    metadata: { name: 'vm1', namespace: 'team-a', uid: 'u', annotations },
    spec,
  } as DataVolume;
  return { dataVolume, storageClass: HOSTPATH, modeDefaults: {}, pools: [POOL], ...more };
}

const sized = (storage: string, more = {}) => ({ resources: { requests: { storage } }, ...more });
const rwo = { accessModes: ['ReadWriteOnce'] };

describe('the plan of a target', () => {
  it('takes pvc sizes as they are and inflates storage sizes', () => {
    const pvc = plan(factsFor({ pvc: sized('1Gi', rwo) }));
    assert.deepEqual([pvc.api, pvc.requestBytes, pvc.usableBytes], ['pvc', 1_073_741_824, 1_012_924_416]);
    const storage = plan(factsFor({ storage: sized('1Gi') }));
    assert.deepEqual(
      [storage.api, storage.requestBytes, storage.usableBytes],
      ['storage', 1_138_166_334, 1_073_741_824],
    );
    assert.deepEqual([storage.accessModes, storage.volumeMode], [['ReadWriteOnce'], 'Filesystem']);
  });

  it('uses the overhead of the class, then the global one', () => {
    const filesystemOverhead = { global: '0.1', storageClass: { hostpath: '0', other: '0.5' } };
    assert.equal(
      plan(factsFor({ storage: sized('1Gi') }, { config: { spec: { filesystemOverhead } } })).requestBytes,
      2 ** 30,
    );
    const config = { status: { filesystemOverhead: { global: '0.1', storageClass: { hostpath: 'a lot' } } } };
    assert.equal(plan(factsFor({ storage: sized('1Gi') }, { config })).overhead, 0.1);
  });

  it('raises storage to the smallest size that the profile supports', () => {
    const profile = { metadata: { annotations: { 'cdi.kubevirt.io/minimumSupportedPvcSize': '4Gi' } } };
    assert.equal(plan(factsFor({ storage: sized('1Gi') }, { profile })).requestBytes, 4 * 2 ** 30);
    assert.equal(plan(factsFor({ pvc: sized('1Gi', rwo) }, { profile })).requestBytes, 2 ** 30);
  });

  const wffc = { ...HOSTPATH, volumeBindingMode: 'WaitForFirstConsumer' };
  const gate = { spec: { featureGates: ['HonorWaitForFirstConsumer'] } };
  const immediate = { 'cdi.kubevirt.io/storage.bind.immediate.requested': '' };
  for (const [waits, storageClass, config, annotations] of [
    [true, wffc, gate, {}],
    [false, wffc, gate, immediate],
    [false, wffc, undefined, {}],
    [false, HOSTPATH, gate, {}],
  ] as const) {
    it(`${waits ? 'waits' : 'does not wait'}: ${storageClass.volumeBindingMode}, gate ${config !== undefined}, immediate ${'cdi.kubevirt.io/storage.bind.immediate.requested' in annotations}`, () => {
      assert.equal(
        plan(factsFor({ storage: sized('1Gi') }, { storageClass, config }, annotations)).waitForConsumer,
        waits,
      );
    });
  }

  const refusals: [string, object, Partial<TargetFacts>, FailureType, RegExp][] = [
    [
      'Block',
      { storage: sized('1Gi', { volumeMode: 'Block' }) },
      {},
      'IncompatiblePVC',
      /volumeMode is Block: StorageClass "hostpath" offers ReadWriteOnce/,
    ],
    [
      'ReadWriteMany',
      { pvc: sized('1Gi', { accessModes: ['ReadWriteMany'] }) },
      {},
      'IncompatiblePVC',
      /ReadWriteMany.*offers ReadWriteOnce/,
    ],
    [
      'a foreign class',
      { storage: sized('1Gi') },
      { storageClass: { metadata: { name: 'fast' }, provisioner: 'csi.example' } },
      'IncompatiblePVC',
      /StorageClass "fast" belongs to provisioner csi.example/,
    ],
    [
      'no pool',
      { storage: sized('1Gi') },
      { pools: [] },
      'StorageClassNotFound',
      /there is no HostPathProvisioner/,
    ],
    ['no size', { storage: {} }, {}, 'InvalidDataVolume', /requests.storage is missing/],
    ['9 EiB', { storage: sized('8Ei') }, {}, 'InvalidDataVolume', /largest size supported/],
  ];
  for (const [what, spec, more, type, message] of refusals) {
    it(`refuses ${what}`, () => {
      assert.throws(
        () => plan(factsFor(spec, more)),
        (error) => failureTypeOf(error) === type && message.test(String(error)),
      );
    });
  }

  it('serves both names of the provisioner', () => {
    const storageClass = { ...HOSTPATH, provisioner: 'kubevirt.io.hostpath-provisioner' };
    assert.equal(
      plan(factsFor({ storage: sized('1Gi') }, { storageClass })).provisioner,
      'kubevirt.io.hostpath-provisioner',
    );
  });
});

describe('volumes that an administrator made', () => {
  const free = (spec = {}, phase = 'Available'): V1PersistentVolume => ({
    metadata: { name: 'static' },
    spec: {
      accessModes: ['ReadWriteOnce'],
      capacity: { storage: '2Gi' },
      storageClassName: TARGET.storageClass,
      ...spec,
    },
    status: { phase },
  });
  for (const bindingMode of ['Immediate', 'WaitForFirstConsumer'] as const) {
    it(`are refused where Kubernetes would bind the claim to one: ${bindingMode}`, () => {
      assert.throws(() => refuseMatchingVolume([free()], { ...TARGET, bindingMode }), {
        type: 'IncompatiblePVC',
        nonRetryable: true,
        message: /^PersistentVolume static \(2Gi\) .* is Available, .* 1138166334 bytes/,
      });
    });
  }
  const others: Readonly<Record<string, V1PersistentVolume>> = {
    'one byte too small': free({ capacity: { storage: String(TARGET.requestBytes - 1) } }),
    'of another class': free({ storageClassName: 'other' }),
    'of no class': free({ storageClassName: undefined }),
    'of another mode': free({ volumeMode: 'Block' }),
    'read only': free({ accessModes: ['ReadOnlyMany'] }),
    'reserved for another claim': free({ claimRef: { namespace: 'a', name: 'b' } }),
    bound: free({}, 'Bound'),
    'without a phase yet': free({}, 'Pending'),
  };
  for (const [what, volume] of Object.entries(others)) {
    it(`are no matter: ${what}`, () => {
      assert.doesNotThrow(() => refuseMatchingVolume([volume], TARGET));
    });
  }
});

describe('plans that are asked for at the same time', () => {
  const naming = {
    apiVersion: 'cdi.kubevirt.io/v1beta1',
    kind: 'DataVolume',
    metadata: { name: 'vm1', namespace: 'team-a', uid: 'u' },
    spec: {
      source: { blank: {} },
      pvc: {
        volumeName: 'disk',
        accessModes: ['ReadWriteOnce'],
        resources: { requests: { storage: '1Gi' } },
      },
    },
  } as DataVolume;

  it('read the volumes once, and a later plan reads them anew', async () => {
    let lists = 0;
    const listPersistentVolume = async () => {
      lists++;
      return { items: [] };
    };
    const planClaim = createClaimPlanner({ core: { listPersistentVolume } } as unknown as Kubernetes);
    const together = Array.from({ length: 100 }, async () => await planClaim(naming, undefined));
    assert.ok((await Promise.all(together)).every(({ staticVolume }) => staticVolume));
    assert.equal(lists, 1);
    await planClaim(naming, undefined);
    assert.equal(lists, 2);
  });
});

describe('planTarget on a real API server', function () {
  this.timeout(30_000);
  const plane = useControlPlane();
  let admin: Kubernetes;
  let namespace: string;
  let planTarget: ReturnType<typeof createTargetActivities>['planTarget'];

  before(async () => {
    admin = plane().admin;
    const kubernetes = createKubernetes(plane().control);
    planTarget = createTargetActivities({
      kubernetes,
      planClaim: createClaimPlanner(kubernetes),
    }).planTarget;
  });
  beforeEach(async () => {
    namespace = await makeNamespace(admin);
  });
  const create = async (spec = {}, annotations = {}) =>
    refOf(await createDataVolume(admin, manifest(namespace, 'vm1', spec, annotations)));
  const makeClaim = async (metadata: object) =>
    await admin.core.createNamespacedPersistentVolumeClaim({
      namespace,
      body: {
        metadata: { name: 'vm1', ...metadata },
        spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
      },
    });

  it('plans a claim of the hostpath class', async () => {
    const target = await act(planTarget, [{ dataVolume: await create() }]);
    assert.equal(target.claim, 'create');
    assert.deepEqual(target.pool, { name: 'legacy', path: plane().info.pool, useNamingPrefix: false });
    assert.equal(target.waitForConsumer, true);
  });

  it('says which class does not exist, and that there is no default', async () => {
    const size = { resources: { requests: { storage: '1Gi' } } };
    const unknown = await create({ storage: { ...size, storageClassName: 'no-such' } });
    await rejects(
      act(planTarget, [{ dataVolume: unknown }]),
      'StorageClassNotFound',
      /"no-such" does not exist/,
    );
    await plane().kubectl('delete', 'dv', 'vm1', '-n', namespace);
    const dataVolume = await create({ storage: size });
    const mark = 'storageclass.kubernetes.io/is-default-class';
    const setDefault = async (value: string): Promise<string> =>
      await plane().kubectl('annotate', '--overwrite', 'sc', 'hostpath-provisioner', `${mark}=${value}`);
    await setDefault('false');
    try {
      await rejects(act(planTarget, [{ dataVolume }]), 'StorageClassNotFound', /has no default StorageClass/);
    } finally {
      await setDefault('true');
    }
    assert.equal((await act(planTarget, [{ dataVolume }])).storageClass, 'hostpath-provisioner');
  });

  it('plans an archive on a file system, and refuses it on a device', async () => {
    const archive = { contentType: 'archive' } as const;
    assert.equal((await act(planTarget, [{ dataVolume: await create(archive) }])).claim, 'create');
    await plane().kubectl('delete', 'dv', 'vm1', '-n', namespace);
    const block = await create({ ...archive, storage: sized('1Gi', { volumeMode: 'Block' }) });
    await rejects(
      act(planTarget, [{ dataVolume: block }]),
      'ContentTypeNotSupported',
      /archive is unpacked into a file system, and volumeMode is Block/,
    );
  });

  it('refuses a claim that somebody else made', async () => {
    const dataVolume = await create();
    await makeClaim({});
    await rejects(act(planTarget, [{ dataVolume }]), 'ResourceExists', /is not managed by the DataVolume/);
  });

  it('adopts what is populated, and what it is allowed to', async () => {
    const dataVolume = await create();
    const claim = await makeClaim({ annotations: { 'cdi.kubevirt.io/storage.populatedFor': 'vm1' } });
    const target = await act(planTarget, [{ dataVolume }]);
    assert.deepEqual([target.claim, target.adoptUid], ['adopt', claim.metadata?.uid]);
    await plane().kubectl('annotate', 'pvc', 'vm1', '-n', namespace, 'cdi.kubevirt.io/storage.populatedFor-');
    await rejects(act(planTarget, [{ dataVolume }]), 'ResourceExists');
    await plane().kubectl(
      'annotate',
      'dv',
      'vm1',
      '-n',
      namespace,
      'cdi.kubevirt.io/allowClaimAdoption=true',
    );
    assert.equal((await act(planTarget, [{ dataVolume }])).claim, 'adopt');
  });

  it('waits for a claim that is prepopulated', async () => {
    const dataVolume = await create({}, { 'cdi.kubevirt.io/storage.prePopulated': 'vm1' });
    assert.equal((await act(planTarget, [{ dataVolume }])).claim, 'wait');
  });

  it('goes on with a claim of its own, adopts it once it is published, waits while it goes', async () => {
    const dataVolume = await create();
    const own = { 'cdi.kubevirt.io/createdForDataVolume': dataVolume.uid };
    await plane().kubectl(
      'create',
      '-n',
      namespace,
      '--as=system:serviceaccount:dvflow:dvflow-control',
      '-f',
      await claimFile(own, dataVolume.uid),
    );
    assert.equal((await act(planTarget, [{ dataVolume }])).claim, 'create');
    await plane().kubectl(
      'label',
      'pvc',
      'vm1',
      '-n',
      namespace,
      'dvflow.io/unpublished-',
      '--as=system:serviceaccount:dvflow:dvflow-control',
    );
    assert.equal((await act(planTarget, [{ dataVolume }])).claim, 'adopt');
    await plane().kubectl(
      'patch',
      'pvc',
      'vm1',
      '-n',
      namespace,
      '--type=merge',
      '-p',
      '{"metadata":{"finalizers":["example/hold"]}}',
    );
    await plane().kubectl('delete', 'pvc', 'vm1', '-n', namespace, '--wait=false');
    const going = await act(planTarget, [{ dataVolume }]);
    assert.equal(going.claim, 'wait');
    assert.match(going.waiting?.message ?? '', /of an earlier run and is being removed/);
    await plane().kubectl(
      'patch',
      'pvc',
      'vm1',
      '-n',
      namespace,
      '--type=merge',
      '-p',
      '{"metadata":{"finalizers":null}}',
    );
  });

  it('refuses a name that a volume is reserved for', async () => {
    const dataVolume = await create();
    const name = `static-${namespace}`;
    await admin.core.createPersistentVolume({
      body: {
        metadata: { name },
        spec: {
          accessModes: ['ReadWriteOnce'],
          capacity: { storage: '1Gi' },
          hostPath: { path: '/srv/x' },
          claimRef: { namespace, name: 'vm1' },
        },
      },
    });
    await rejects(act(planTarget, [{ dataVolume }]), 'IncompatiblePVC', /is reserved for claim/);
    await admin.core.deletePersistentVolume({ name });
  });

  it('refuses a class of which a volume is free', async () => {
    const dataVolume = await create();
    const name = `free-${namespace}`;
    await admin.core.createPersistentVolume({
      body: {
        metadata: { name },
        spec: {
          accessModes: ['ReadWriteOnce'],
          capacity: { storage: '2Gi' },
          storageClassName: 'hostpath-provisioner',
          hostPath: { path: '/srv/x' },
        },
      },
    });
    const phase = async () => (await admin.core.readPersistentVolume({ name })).status?.phase;
    for (let waited = 0; waited < 10_000 && (await phase()) !== 'Available'; waited += 100) await sleep(100);
    await rejects(act(planTarget, [{ dataVolume }]), 'IncompatiblePVC', new RegExp(`${name} \\(2Gi\\)`));
    await admin.core.deletePersistentVolume({ name });
  });

  async function claimFile(annotations: Record<string, string>, uid: string): Promise<string> {
    const { writeFile } = await import('node:fs/promises');
    const path = `${plane().info.directory}/claim.json`;
    await writeFile(
      path,
      JSON.stringify({
        apiVersion: 'v1',
        kind: 'PersistentVolumeClaim',
        metadata: { name: 'vm1', annotations, labels: { 'dvflow.io/unpublished': uid } },
        spec: {
          accessModes: ['ReadWriteOnce'],
          resources: { requests: { storage: '1Gi' } },
          storageClassName: 'hostpath-provisioner',
        },
      }),
    );
    return path;
  }
});
