import assert from 'node:assert/strict';
import type { V1StorageClass } from '@kubernetes/client-node';
import type { CdiConfig } from '../../activities/kubernetes/objects.js';
import { planScratch, type ScratchFacts } from '../../activities/kubernetes/scratch-plan.js';
import { failureTypeOf } from '../../activities/failures.js';
import { POOL } from './support/fixtures.js';

const MiB = 2 ** 20;
const HPP = 'kubevirt.io/hostpath-provisioner';
const DEFAULT = { 'storageclass.kubernetes.io/is-default-class': 'true' };

const storageClass = (name: string, provisioner = HPP, annotations = {}): V1StorageClass => ({
  metadata: { name, annotations },
  provisioner,
});
const withOverheads = (storageClass: Record<string, string>, scratch?: string): CdiConfig => ({
  spec: {
    filesystemOverhead: { storageClass },
    ...(scratch === undefined ? {} : { scratchSpaceStorageClass: scratch }),
  },
});

function facts(more: Partial<ScratchFacts> = {}): ScratchFacts {
  return {
    config: undefined,
    classes: [storageClass('target')],
    pools: [POOL],
    target: { storageClass: 'target', volumeMode: 'Filesystem', requestBytes: 1024 * MiB, overhead: 0.06 },
    image: { containers: ['gz'], validators: { length: 5 } },
    reason: 'a VMDK in gz',
    ...more,
  };
}

describe('the StorageClass of scratch space', () => {
  const classes = [storageClass('target'), storageClass('told'), storageClass('usual', HPP, DEFAULT)];
  const told = (name: string): CdiConfig => withOverheads({}, name);
  const choose = (more: Partial<ScratchFacts>): readonly [string, string] => {
    const plan = planScratch(facts({ classes, ...more }));
    return [plan.storageClass, plan.chosenBy];
  };

  it('is the configured one, if it exists', () => {
    assert.deepEqual(choose({ config: told('told') }), ['told', 'scratchSpaceStorageClass']);
  });

  it("is the cluster's default, if the configured one does not exist or none is configured", () => {
    for (const config of [told('nowhere'), told(''), undefined])
      assert.deepEqual(choose({ config }), ['usual', 'default StorageClass']);
  });

  it("is not the cluster's default for virtual machines, which is for disks", () => {
    const virt = storageClass('virt', HPP, { 'storageclass.kubevirt.io/is-default-virt-class': 'true' });
    const [first, second] = classes;
    assert.deepEqual(choose({ classes: [first!, second!, virt] }), ['target', "target's StorageClass"]);
  });

  it("is the target's, without a default", () => {
    assert.deepEqual(choose({ classes: [storageClass('target')] }), ['target', "target's StorageClass"]);
  });

  it('may be one of the old provisioner name', () => {
    const old = storageClass('told', 'kubevirt.io.hostpath-provisioner');
    assert.equal(planScratch(facts({ classes: [old], config: told('told') })).provisioner, old.provisioner);
  });

  const block = {
    storageClass: 'local',
    volumeMode: 'Block',
    requestBytes: 1024 * MiB,
    overhead: 0,
  } as const;
  const refusals: [string, Partial<ScratchFacts>, RegExp][] = [
    [
      'a default class that only a pod can mount',
      { classes: [storageClass('ceph', 'rbd.csi.ceph.com', DEFAULT)] },
      /needs scratch space: a VMDK in gz; StorageClass "ceph" \(the default StorageClass\) belongs to provisioner rbd\.csi\.ceph\.com.*only a pod can mount.*set spec\.scratchSpaceStorageClass of CDIConfig config/,
    ],
    [
      'a configured class that only a pod can mount, whatever the default is',
      {
        classes: [storageClass('ceph', 'rbd.csi.ceph.com'), storageClass('usual', HPP, DEFAULT)],
        config: told('ceph'),
      },
      /StorageClass "ceph" \(the scratchSpaceStorageClass\)/,
    ],
    [
      'a configured class that does not exist, and no other that would do',
      { classes: [storageClass('ceph', 'rbd.csi.ceph.com', DEFAULT)], config: told('nowhere') },
      /"ceph".*\(it names "nowhere", which does not exist\)/,
    ],
    [
      'a Block target of a class that provisions no files',
      { target: block, classes: [storageClass('local', 'kubernetes.io/no-provisioner')] },
      /StorageClass "local" \(the target's StorageClass\) provisions nothing by itself.*the target is a Block volume, scratch space is a file system/,
    ],
    [
      'a target whose class is gone or has none, without a default',
      { target: { ...block, storageClass: '' }, classes: [] },
      /the target's volume has no StorageClass/,
    ],
    ['a class without a pool', { pools: [] }, /no HostPathProvisioner/],
  ];
  for (const [what, more, message] of refusals) {
    it(`refuses ${what}: ScratchSpaceRequired, with the class and the setting`, () => {
      assert.throws(
        () => planScratch(facts(more)),
        (error) => {
          assert.equal(failureTypeOf(error), 'ScratchSpaceRequired');
          assert.match(String(error), message);
          assert.match(String(error), /spec\.scratchSpaceStorageClass of CDIConfig config/);
          return true;
        },
      );
    });
  }

  it('serves a Block target from a file class', () => {
    const plan = planScratch(facts({ target: block, classes, config: told('told') }));
    assert.deepEqual([plan.storageClass, plan.pool], ['told', POOL]);
  });
});

describe('the size of scratch space', () => {
  /** CDI's own values (`cdi.md` §5): target and scratch overhead, MiB of a 1 GiB target. */
  const sizes: [string, string, number][] = [
    ['0.03', '0.03', 1024],
    ['0.03', '0.1', 1094],
    ['0.1', '0.03', 958],
  ];
  for (const [target, scratch, expected] of sizes) {
    it(`is ${expected} MiB for a target of 1 GiB, overheads ${target} and ${scratch}`, () => {
      const config = withOverheads({ target, told: scratch }, 'told');
      const plan = planScratch(
        facts({
          config,
          classes: [storageClass('told')],
          target: { ...facts().target, overhead: Number(target) },
        }),
      );
      assert.equal(plan.requestBytes, expected * MiB);
    });
  }

  it('takes a Block target as it is: 1076 MiB for 1 GiB at 0.05', () => {
    const config = withOverheads({ told: '0.05' }, 'told');
    const target = {
      storageClass: 'b',
      volumeMode: 'Block',
      requestBytes: 1024 * MiB,
      overhead: 0.5,
    } as const;
    const plan = planScratch(facts({ config, classes: [storageClass('told')], target }));
    assert.equal(plan.requestBytes, 1076 * MiB);
  });

  it('promises its directory room for the tables of an image file as well: a 32nd', () => {
    const config = withOverheads({ told: '0' }, 'told');
    const target = { ...facts().target, overhead: 0 };
    const plan = planScratch(facts({ config, classes: [storageClass('told')], target }));
    assert.deepEqual([plan.requestBytes, plan.promisedBytes], [1024 * MiB, 1056 * MiB]);
  });

  it("is more where the image's own file is known to be larger, and not by what a compressor hides", () => {
    const length = 5000 * MiB;
    const size = (containers: ScratchFacts['image']['containers']): number =>
      planScratch(facts({ image: { containers, validators: { length } } })).requestBytes;
    assert.equal(size([]), 5300 * MiB);
    assert.equal(size(['gz']), 1024 * MiB);
  });
});
