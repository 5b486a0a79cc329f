import assert from 'node:assert/strict';
import { CustomObjectsApi, PatchStrategy, setHeaderOptions } from '@kubernetes/client-node';
import { accountName } from '../support/accounts.js';
import { useStack } from '../support/stack.js';
import { PATHS, useCloneScene, VERSIONS } from './clone-scene.js';
import { as, create, messageOf, refusal, type Manifest } from './requests.js';

const CONTROL = 'system:serviceaccount:dvflow:dvflow-control';
const LABELLED = { metadata: { labels: { team: 'a' } } };

describe('the right to clone from another namespace', function () {
  this.timeout(60_000);
  const stack = useStack();
  const scene = useCloneScene(stack);
  const { source, destination, disk, account, allowed, clone, dataSource, denial, denied, patch } = scene;
  const own = { pvc: { namespace: destination, name: 'disk' } };

  async function make(manifest: Manifest): Promise<string> {
    assert.equal(await create(stack.kubeConfig, manifest), undefined);
    return manifest.metadata.name;
  }

  it('is asked for whatever the object is called, and however and in whichever version it is written', async () => {
    for (const version of VERSIONS) {
      await denied('stranger', clone({ source: disk }, { version }));
      await denied('stranger', dataSource('offer', disk, { version }), `offer PVC ${source}/disk`);
    }
    await denied('stranger', clone({ source: disk }, { name: undefined, generateName: 'clone-' }));
    const custom = account('stranger').makeApiClient(CustomObjectsApi);
    const body = clone({ source: disk }, { name: 'applied' });
    const applied = custom.patchNamespacedCustomObject(
      { ...PATHS.dv, namespace: destination, name: 'applied', body, fieldManager: 'test', force: true },
      setHeaderOptions('Content-Type', PatchStrategy.ServerSideApply),
    );
    assert.match((await messageOf(applied)) ?? 'accepted', /insufficient permissions/);
  });

  it('is asked for where the request goes, whatever namespace the object names', async () => {
    const { metadata, ...rest } = clone({ source: disk });
    const custom = account('stranger').makeApiClient(CustomObjectsApi);
    const request = { ...PATHS.dv, namespace: destination, dryRun: 'All' };
    const without = { ...rest, metadata: { name: metadata.name } };
    const message = await messageOf(custom.createNamespacedCustomObject({ ...request, body: without }));
    assert.match(message ?? 'accepted', /insufficient permissions/);
    const elsewhere = { ...rest, metadata: { ...metadata, namespace: source } };
    const other = await messageOf(custom.createNamespacedCustomObject({ ...request, body: elsewhere }));
    assert.match(other ?? 'accepted', /does not match the namespace sent on the request/);
  });

  it('is not replaced by annotations: tokens, marks of finished claims, or those of others', async () => {
    const forged = {
      'cdi.kubevirt.io/storage.clone.token': 'x.y.z',
      'cdi.kubevirt.io/storage.extended.clone.token': 'x.y.z',
      'cdi.kubevirt.io/storage.prePopulated': 'true',
      'cdi.kubevirt.io/storage.checkStaticVolume': '',
      'cdi.kubevirt.io/allowClaimAdoption': 'true',
      'k8s.io/CloneRequest': `${source}/disk`,
    };
    for (const [annotation, value] of Object.entries(forged))
      await denied('stranger', clone({ source: disk }, { annotations: { [annotation]: value } }));
  });

  it('is not replaced by naming a DataSource elsewhere: that takes the same right where it lies', async () => {
    const reference = (name: string): object => ({
      sourceRef: { kind: 'DataSource', namespace: source, name },
    });
    for (const version of VERSIONS)
      await denied('stranger', clone(reference('disk'), { version }), `clone from DataSource ${source}/disk`);
    await denied('reads', clone(reference('disk')), `clone from DataSource ${source}/disk`);
    await denied('clones-disk', clone(reference('other')), `clone from DataSource ${source}/other`);
    for (const name of ['default', 'clones', 'runs-pods', 'clones-disk'] as const)
      await allowed(name, clone(reference('disk')));
  });

  it('is not gained by editing a DataVolume: what it is cloned from never changes, whoever asks', async () => {
    const name = await make(clone({ source: own }));
    const specs = [{ source: disk }, { source: null, sourceRef: { kind: 'DataSource', name: 'x' } }];
    for (const version of VERSIONS)
      for (const who of [account('stranger'), account('clones'), stack.kubeConfig])
        for (const spec of specs)
          assert.match(
            (await patch(who, 'dv', name, { spec }, version)) ?? 'accepted',
            /Cannot update DataVolume Spec|insufficient permissions/,
          );
    assert.equal(await patch(account('stranger'), 'dv', name, LABELLED), undefined);
  });

  it('was asked for when the clone was: whoever labels it later needs none', async () => {
    const name = await make(clone({ source: disk }));
    assert.equal(await patch(account('stranger'), 'dv', name, LABELLED), undefined);
    const removed = { metadata: { annotations: { 'cdi.kubevirt.io/storage.prePopulated': null } } };
    assert.equal(await patch(account('stranger'), 'dv', name, removed), undefined);
    await stack.kubectl(['delete', 'dv', '-n', destination, '--wait=false', name]);
  });

  it('is asked for again by a retry, which clones once more', async () => {
    const name = await make(clone({ source: disk }));
    const retry = (value: string | null): object => ({
      metadata: { annotations: { 'dvflow.io/retry': value } },
    });
    const refused = denial(accountName(destination, 'stranger'), `clone from PVC ${source}/disk`);
    for (const version of VERSIONS) {
      const message = await patch(account('stranger'), 'dv', name, retry('1'), version);
      assert.ok(message?.endsWith(refused), message);
    }
    assert.equal(await patch(account('clones'), 'dv', name, retry('1')), undefined);
    assert.equal(await patch(account('stranger'), 'dv', name, LABELLED), undefined);
    for (const value of ['2', null]) {
      const message = await patch(account('stranger'), 'dv', name, retry(value));
      assert.ok(message?.endsWith(refused), message);
    }
    const ownName = await make(clone({ source: own }));
    assert.equal(await patch(account('stranger'), 'dv', ownName, retry('1')), undefined);
  });

  it('is needed to point a DataSource there, by whichever version or write', async () => {
    const name = await make(dataSource('golden', own));
    const refused = denial(accountName(destination, 'stranger'), `offer PVC ${source}/disk`);
    for (const version of VERSIONS) {
      const message = await patch(account('stranger'), 'das', name, { spec: { source: disk } }, version);
      assert.ok(message?.endsWith(refused), message);
    }
    const snapshot = { pvc: null, snapshot: { namespace: source, name: 's' } };
    assert.match(
      (await patch(account('runs-pods'), 'das', name, { spec: { source: snapshot } })) ?? 'accepted',
      /create pods and persistentvolumeclaims$/,
    );
    const other = { source: { pvc: { namespace: source, name: 'other' } } };
    assert.match(
      (await patch(account('clones-disk'), 'das', name, { spec: other })) ?? 'accepted',
      /offer PVC/,
    );
    assert.equal(await patch(account('clones-disk'), 'das', name, { spec: { source: disk } }), undefined);
  });

  it('is delegated by it: who may use DataSources of that namespace asks nobody', async () => {
    await allowed('stranger', clone({ sourceRef: { kind: 'DataSource', name: 'golden' } }));
    assert.equal(await patch(account('stranger'), 'das', 'golden', LABELLED), undefined);
  });

  it('is needed to say so in the status of a DataSource, which KubeVirt believes', async () => {
    const status = { source: disk };
    const told = /insufficient permissions in clone source namespace .* status\.source names PVC .*\/disk$/;
    const untrue = dataSource('untrue', own, { status });
    assert.match((await refusal(account('stranger'), untrue)) ?? 'accepted', told);
    const name = await make(dataSource('told', own));
    for (const version of VERSIONS)
      assert.match((await patch(account('stranger'), 'das', name, { status }, version)) ?? 'accepted', told);
    const both = { source: { ...own, snapshot: { namespace: source, name: 'snap' } } };
    assert.match(
      (await patch(account('stranger'), 'das', name, { status: both })) ?? 'accepted',
      /Multiple Data volume sources/,
    );
    assert.equal(await patch(account('clones'), 'das', name, { status }), undefined);
  });

  it('is none of dvflow: it may say what a DataSource names, and not change that', async () => {
    const name = await make(dataSource('kept', own));
    const custom = as(stack.kubeConfig, CONTROL).makeApiClient(CustomObjectsApi);
    const where = { ...PATHS.das, namespace: destination, name, dryRun: 'All' };
    // read anew each time: the watch writes its status meanwhile
    const replace = async (body: object): Promise<string | undefined> => {
      for (let left = 10; ; left -= 1) {
        const found = (await custom.getNamespacedCustomObject(where)) as object;
        const message = await messageOf(
          custom.replaceNamespacedCustomObject({ ...where, body: { ...found, ...body } }),
        );
        if (left === 0 || !message?.includes('the object has been modified')) return message;
      }
    };
    const message = await replace({ spec: { source: disk } });
    assert.ok(message?.endsWith(denial(CONTROL, `offer PVC ${source}/disk`)), message);
    assert.equal(await replace({ status: { source: disk } }), undefined);
  });
});
