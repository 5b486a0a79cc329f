import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { KubernetesObjectApi, type KubernetesObject } from '@kubernetes/client-node';
import { useStack, type TestStack } from '../support/stack.js';
import { claim, create, dataVolume } from './requests.js';

const UPLOAD = { source: { upload: {} }, pvc: claim('1Gi') };
const S3 = { source: { s3: { url: 'https://s3.example.com/bucket/disk' } }, pvc: claim('1Gi') };
/** What no worker of the stack goes to work on: a populator of somebody else's. */
const UNSERVED = {
  storage: { ...claim('1Gi'), dataSourceRef: { apiGroup: 'images.example', kind: 'Image', name: 'disk' } },
};
const WARM = {
  source: {
    vddk: {
      url: 'https://vcenter.example.com',
      secretRef: 's',
      uuid: 'u',
      backingFile: '[ds] vm.vmdk',
      thumbprint: 'AA',
    },
  },
  pvc: claim('1Gi'),
  checkpoints: [{ previous: '', current: 'one' }],
};

/** What a change of the spec is, as a JSON merge patch, and whether CDI lets it through. */
const CHANGES: readonly (readonly [title: string, spec: unknown, patch: unknown, allowed: boolean])[] = [
  ['another URL', S3, { source: { s3: { url: 'https://s3.example.com/bucket/b' } } }, false],
  ['another source', S3, { source: { s3: null, blank: {} } }, false],
  ['another size', UPLOAD, claimPatch('2Gi'), false],
  ['the same size written otherwise (CDI would let it through)', UPLOAD, claimPatch('1024Mi'), false],
  ['a selector that appears', UPLOAD, { pvc: { selector: { matchLabels: { a: 'b' } } } }, false],
  ['a content type that appears', UPLOAD, { contentType: 'archive' }, false],
  [
    'an empty content type that a client leaves out',
    { ...UPLOAD, contentType: '' },
    { contentType: null },
    true,
  ],
  ['an empty priority class that appears', UPLOAD, { priorityClassName: '' }, true],
  ['a priority class that appears', UPLOAD, { priorityClassName: 'high' }, false],
  ['a service account that appears', UPLOAD, { serviceAccountName: 'robot' }, false],
  ['preallocation that appears', UPLOAD, { preallocation: true }, false],
  ['pvc that becomes storage', UPLOAD, { pvc: null, storage: { resources: claim('1Gi').resources } }, false],
  ['checkpoints of an s3 import', S3, { checkpoints: [{ previous: '', current: 'one' }] }, false],
  ['finalCheckpoint of an upload', UPLOAD, { finalCheckpoint: true }, false],
  [
    'one checkpoint more',
    WARM,
    { checkpoints: [...WARM.checkpoints, { previous: 'one', current: 'two' }] },
    true,
  ],
  ['the final checkpoint', WARM, { finalCheckpoint: true }, true],
  [
    'a checkpoint and another URL',
    WARM,
    { finalCheckpoint: true, source: { vddk: { url: 'https://b' } } },
    false,
  ],
  ['no checkpoints any more', WARM, { checkpoints: null }, false],
];

describe('DataVolume versions and updates', function () {
  this.timeout(20_000);
  const stack = useStack();

  CHANGES.forEach(([title, spec, patch, allowed], index) => {
    it(`${allowed ? 'allow' : 'refuse'} ${title}`, async () => {
      const name = `change-${index}`;
      assert.equal(await create(stack.kubeConfig, dataVolume(name, spec)), undefined);
      const change = patchSpec(stack, name, patch);
      if (allowed) await change;
      else await assert.rejects(change, /Cannot update DataVolume Spec/);
    });
  });

  it('allow a change of labels and annotations', async () => {
    await create(stack.kubeConfig, dataVolume('labelled', UPLOAD));
    assert.match(await stack.kubectl(['label', 'dv', 'labelled', 'a=b']), /labeled/);
  });

  it('read as v1beta1 what was written as v1alpha1, and the other way', async () => {
    await create(stack.kubeConfig, dataVolume('old', UPLOAD, { version: 'v1alpha1' }));
    const read = async (version: string): Promise<unknown> =>
      JSON.parse(await stack.kubectl(['get', `datavolumes.${version}.cdi.kubevirt.io`, 'old', '-o', 'json']));
    const [beta, alpha] = (await Promise.all([read('v1beta1'), read('v1alpha1')])) as {
      apiVersion: string;
      spec: unknown;
    }[];
    assert.deepEqual(
      [beta?.apiVersion, alpha?.apiVersion],
      ['cdi.kubevirt.io/v1beta1', 'cdi.kubevirt.io/v1alpha1'],
    );
    assert.deepEqual([beta?.spec, alpha?.spec], [UPLOAD, UPLOAD]);
  });

  it('watch in v1alpha1 what is written as v1beta1', async () => {
    const seen: string[] = [];
    const path = '/apis/cdi.kubevirt.io/v1alpha1/namespaces/default/datavolumes';
    const watch = await stack.watch(path, (type, object) => {
      const { apiVersion, metadata } = object as { apiVersion: string; metadata?: { name: string } };
      seen.push(`${type} ${apiVersion} ${metadata?.name ?? ''}`);
    });
    try {
      await create(stack.kubeConfig, dataVolume('watched', UPLOAD));
      while (!seen.includes('ADDED cdi.kubevirt.io/v1alpha1 watched')) await sleep(50);
    } finally {
      watch.stop();
    }
  });

  it('keep the status out of the reach of a plain update, in both versions', async () => {
    await create(stack.kubeConfig, dataVolume('stated', UNSERVED));
    for (const version of ['v1beta1', 'v1alpha1']) {
      const resource = `datavolumes.${version}.cdi.kubevirt.io`;
      const patch = JSON.stringify({ status: { progress: `of ${version}` } });
      await stack.kubectl(['patch', resource, 'stated', '--type=merge', '-p', patch]);
      assert.notEqual(await progress(stack, 'stated'), `of ${version}`);
      await stack.kubectl(['patch', resource, 'stated', '--subresource=status', '--type=merge', '-p', patch]);
      assert.equal(await progress(stack, 'stated'), `of ${version}`);
    }
  });

  it('show phase, progress, restarts and age under each of the names', async () => {
    const path = dataVolume('shown', UNSERVED);
    await create(stack.kubeConfig, path);
    const status = JSON.stringify({
      status: { phase: 'ImportInProgress', progress: '45.30%', restartCount: 3 },
    });
    await stack.kubectl(['patch', 'dv', 'shown', '--subresource=status', '--type=merge', '-p', status]);
    for (const name of ['dv', 'dvs', 'datavolume', 'datavolumes.v1alpha1.cdi.kubevirt.io']) {
      const [head, row] = (await stack.kubectl(['get', name, 'shown'])).trim().split('\n');
      assert.match(head ?? '', /^NAME +PHASE +PROGRESS +RESTARTS +AGE *$/);
      assert.match(row ?? '', /^shown +ImportInProgress +45\.30% +3 +\d+s *$/);
    }
    assert.match(await stack.kubectl(['get', 'all']), /datavolume\.cdi\.kubevirt\.io\/shown/);
  });

  it('take a name that the API server makes up', async () => {
    const metadata = { namespace: 'default', generateName: 'made-up-' };
    const api = KubernetesObjectApi.makeApiClient(stack.kubeConfig);
    const created = await api.create<KubernetesObject>({ ...dataVolume('', UPLOAD), metadata });
    assert.match(created.metadata?.name ?? '', /^made-up-\w{5}$/);
  });
});

function claimPatch(storage: string): unknown {
  return { pvc: { resources: { requests: { storage } } } };
}

async function patchSpec(stack: TestStack, name: string, spec: unknown): Promise<string> {
  return await stack.kubectl(['patch', 'dv', name, '--type=merge', '-p', JSON.stringify({ spec })]);
}

async function progress(stack: TestStack, name: string): Promise<string> {
  return await stack.kubectl(['get', 'dv', name, '-o', 'jsonpath={.status.progress}']);
}
