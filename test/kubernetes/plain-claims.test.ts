import assert from 'node:assert/strict';
import type { V1PersistentVolumeClaim } from '@kubernetes/client-node';
import { asksForVolume, refusalOf, waitsForData } from '../../activities/kubernetes/plain-claims.js';

const OURS = { provisioner: 'kubevirt.io/hostpath-provisioner' };
const ASKED = { 'volume.kubernetes.io/storage-provisioner': 'kubevirt.io.hostpath-provisioner' };

function claim(
  annotations: Record<string, string> = ASKED,
  spec: V1PersistentVolumeClaim['spec'] = {},
  more: V1PersistentVolumeClaim = {},
): V1PersistentVolumeClaim {
  return {
    metadata: { name: 'c', annotations, ...more.metadata },
    spec,
    status: more.status ?? { phase: 'Pending' },
  };
}

describe('plain claims', () => {
  it('ask when Kubernetes asks for either name, or when their user names the node', () => {
    assert.ok(asksForVolume(claim(), undefined));
    assert.ok(asksForVolume(claim({ 'kubevirt.io/provisionOnNode': 'node01' }), OURS));
    assert.ok(asksForVolume({ metadata: { annotations: ASKED }, spec: {} }, OURS), 'no status yet');
  });

  it('do not ask while the scheduler has not chosen, of another provisioner, or when their volume is there', () => {
    assert.ok(!asksForVolume(claim({}), OURS));
    assert.ok(!asksForVolume(claim({ 'kubevirt.io/provisionOnNode': 'node01' }), { provisioner: 'other' }));
    assert.ok(!asksForVolume(claim({ 'kubevirt.io/provisionOnNode': 'node01' }), undefined));
    assert.ok(!asksForVolume(claim({ 'volume.kubernetes.io/storage-provisioner': 'other' }), OURS));
    assert.ok(!asksForVolume(claim(ASKED, { volumeName: 'pv' }), OURS));
    assert.ok(!asksForVolume(claim(ASKED, {}, { metadata: { deletionTimestamp: new Date() } }), OURS));
    assert.ok(!asksForVolume(claim(ASKED, {}, { status: { phase: 'Lost' } }), OURS));
  });

  for (const name of [
    'cdi.kubevirt.io/storage.upload.target',
    'cdi.kubevirt.io/storage.import.endpoint',
    'k8s.io/CloneRequest',
    'cdi.kubevirt.io/createdForDataVolume',
  ]) {
    it(`wait for data with annotation ${name}, even an empty one`, () => {
      assert.ok(waitsForData(claim({ ...ASKED, [name]: '' })));
      assert.ok(!asksForVolume(claim({ ...ASKED, [name]: '' }), OURS));
    });
  }

  it('wait for data with a dataSource, a dataSourceRef, or a mark of a lifecycle', () => {
    const source = { kind: 'PersistentVolumeClaim', name: 'other' };
    assert.ok(waitsForData(claim(ASKED, { dataSource: source })));
    assert.ok(waitsForData(claim(ASKED, { dataSourceRef: source })));
    assert.ok(waitsForData(claim(ASKED, {}, { metadata: { labels: { 'dvflow.io/unpublished': 'x' } } })));
    assert.ok(!waitsForData(claim()));
  });

  it('are refused for what no directory can be', () => {
    const refused = (spec: V1PersistentVolumeClaim['spec']) =>
      refusalOf(claim(ASKED, spec), OURS.provisioner);
    assert.equal(
      refused({ volumeMode: 'Block' }),
      'kubevirt.io/hostpath-provisioner does not support block volume provisioning',
    );
    assert.match(
      refused({ accessModes: ['ReadWriteOnce', 'ReadWriteMany'] }) ?? '',
      /^accessMode is ReadWriteMany: /,
    );
    assert.match(refused({ selector: { matchLabels: { a: 'b' } } }) ?? '', /does not support selectors/);
    assert.match(
      refused({ resources: { requests: { storage: '16Pi' } } }) ?? '',
      /^the claim requests 18014398509481984 bytes/,
    );
    assert.equal(
      refused({ accessModes: ['ReadWriteOncePod'], resources: { requests: { storage: '1Gi' } } }),
      undefined,
    );
  });
});
