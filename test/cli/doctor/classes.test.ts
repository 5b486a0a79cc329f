import assert from 'node:assert/strict';
import type { V1StorageClass } from '@kubernetes/client-node';
import { checkClasses } from '../../../cli/doctor/checks/classes.js';
import type { ClusterFacts } from '../../../cli/doctor/cluster.js';
import { forbidden, notFound, only } from './findings.js';

const OWN = 'kubevirt.io/hostpath-provisioner';
const DEFAULT = 'storageclass.kubernetes.io/is-default-class';

function storageClass(name: string, more: Partial<V1StorageClass> = {}): V1StorageClass {
  return { metadata: { name }, provisioner: OWN, ...more };
}

describe('doctor: StorageClasses', () => {
  const profile = (name: string) => ({
    metadata: { name },
    status: { claimPropertySets: [{ accessModes: ['ReadWriteOnce'], volumeMode: 'Filesystem' }] },
  });
  const marked = { metadata: { name: 'a', annotations: { [DEFAULT]: 'true' } } };
  const facts = (
    classes: readonly V1StorageClass[],
    more: Partial<Pick<ClusterFacts, 'profiles' | 'config' | 'provisioners'>> = {},
  ) => ({
    storageClasses: { value: classes },
    provisioners: {
      value: [{ metadata: { name: 'p' }, spec: { storagePools: [{ name: 'fast', path: '/fast' }] } }],
    },
    profiles: { value: classes.map(({ metadata }) => profile(metadata?.name ?? '')) },
    config: { value: { status: { filesystemOverhead: { global: '0.06' } } } },
    ...more,
  });

  it('are well where one of ours is the default, profiled and has its pool', () => {
    const findings = checkClasses(
      facts([storageClass('a', { ...marked, parameters: { storagePool: 'fast' } })]),
    );
    assert.deepEqual([...new Set(findings.map(({ level }) => level))], ['ok']);
  });

  it('are a problem where none is ours', () => {
    const [finding] = checkClasses(facts([storageClass('b', { ...marked, provisioner: 'example.com/csi' })]));
    assert.equal(finding?.level, 'problem');
    assert.match(finding?.found ?? '', /no class has the provisioner kubevirt\.io\/hostpath-provisioner/);
  });

  it('tell a pool that does not exist, with the names of those that do', () => {
    const [finding] = checkClasses(
      facts([storageClass('a', { ...marked, parameters: { storagePool: 'slow' } })]),
    );
    assert.match(finding?.found ?? '', /names slow; pools are: fast/);
  });

  it('warn of no default, and of several', () => {
    const [none] = only(checkClasses(facts([storageClass('a')])), 'warning');
    assert.match(none?.todo ?? '', /kubectl annotate storageclass a .*is-default-class=true/);
    const two = [
      storageClass('a', marked),
      storageClass('b', { metadata: { ...marked.metadata, name: 'b' } }),
    ];
    const [several] = only(checkClasses(facts(two)), 'warning');
    assert.match(several?.found ?? '', /2 classes are marked: a, b/);
    assert.match(several?.todo ?? '', /kubectl annotate storageclass b .*is-default-class-$/);
  });

  it('warn of a profile without modes, with the patch', () => {
    const findings = checkClasses(
      facts([storageClass('a', marked)], { profiles: { value: [{ metadata: { name: 'a' } }] } }),
    );
    assert.match(only(findings, 'warning')[0]?.todo ?? '', /kubectl patch storageprofile a --type merge/);
  });

  it('know scratch space of a class that does not exist, and no configuration at all', () => {
    const config = { value: { spec: { scratchSpaceStorageClass: 'gone' } } };
    const [gone] = only(checkClasses(facts([storageClass('a', marked)], { config })), 'problem');
    assert.match(gone?.found ?? '', /names gone, which does not exist/);
    const [none] = only(checkClasses(facts([storageClass('a', marked)], { config: notFound })), 'problem');
    assert.equal(none?.todo, 'kubectl apply -k deploy/defaults');
    const [refused] = only(
      checkClasses(facts([storageClass('a', marked)], { config: forbidden })),
      'warning',
    );
    assert.equal(refused?.found, 'not judged: nobody may');
  });
});
