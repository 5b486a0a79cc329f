import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { CustomObjectsApi, KubeConfig } from '@kubernetes/client-node';
import { MERGE_PATCH } from '../../activities/kubernetes/client.js';
import type { DataSource, DataSourceSource } from '../../activities/kubernetes/objects.js';
import { eventually, useControlStack } from './support.js';

const PATH = { group: 'cdi.kubevirt.io', version: 'v1beta1', plural: 'datasources' } as const;

describe('DataSources under watch, with real Kubernetes', function () {
  this.timeout(60_000);
  const stack = useControlStack();
  let custom: CustomObjectsApi;

  before('two replicas', async () => {
    const admin = new KubeConfig();
    admin.loadFromFile(stack.info.kubeconfig);
    custom = admin.makeApiClient(CustomObjectsApi);
    await Promise.all([stack.startWatch({ relistMs: 5_000 }), stack.startWatch({ relistMs: 5_000 })]);
  });

  async function make(name: string, source: DataSourceSource, version = 'v1beta1'): Promise<void> {
    const body = {
      apiVersion: `cdi.kubevirt.io/${version}`,
      kind: 'DataSource',
      metadata: { name, namespace: stack.namespace },
      spec: { source },
    };
    await custom.createNamespacedCustomObject({ ...PATH, version, namespace: stack.namespace, body });
  }

  async function name(dataSource: string, source: object): Promise<void> {
    const body = { spec: { source } };
    await custom.patchNamespacedCustomObject(
      { ...PATH, namespace: stack.namespace, name: dataSource, body },
      MERGE_PATCH,
    );
  }

  async function read(dataSource: string): Promise<DataSource> {
    return (await custom.getNamespacedCustomObject({
      ...PATH,
      namespace: stack.namespace,
      name: dataSource,
    })) as DataSource;
  }

  /** The DataSource once it gives this reason. */
  async function says(dataSource: string, reason: string): Promise<DataSource> {
    let last: DataSource | undefined;
    return await eventually(`${dataSource} says ${reason}`, async () => {
      last = await read(dataSource);
      return last.status?.conditions?.[0]?.reason === reason && last;
    }).catch((error: Error) => assert.fail(`${error.message}: ${JSON.stringify(last?.status)}`));
  }

  async function makeClaim(claim: string, labels: Record<string, string> = {}): Promise<void> {
    const spec = {
      accessModes: ['ReadWriteOnce'],
      resources: { requests: { storage: '1Gi' } },
      storageClassName: 'nobody',
    };
    await stack.core.createNamespacedPersistentVolumeClaim({
      namespace: stack.namespace,
      body: { metadata: { name: claim, labels }, spec },
    });
  }

  const pvc = (claim: string): DataSourceSource => ({ pvc: { namespace: stack.namespace, name: claim } });
  const another = (dataSource: string, namespace = stack.namespace): DataSourceSource => ({
    dataSource: { namespace, name: dataSource },
  });

  it('follow a claim that appears, and goes', async () => {
    await make('plain', pvc('plain-disk'));
    assert.deepEqual((await says('plain', 'NotFound')).status?.source, {});
    await makeClaim('plain-disk', { 'kubevirt.io/os': 'linux' });
    const ready = await says('plain', 'Ready');
    assert.deepEqual(ready.status?.source, pvc('plain-disk'));
    assert.equal(ready.status?.conditions?.[0]?.status, 'True');
    assert.equal(ready.metadata.labels?.['kubevirt.io/os'], 'linux');
    await stack.core.patchNamespacedPersistentVolumeClaim(
      { namespace: stack.namespace, name: 'plain-disk', body: { metadata: { finalizers: null } } },
      MERGE_PATCH,
    );
    await stack.core.deleteNamespacedPersistentVolumeClaim({
      namespace: stack.namespace,
      name: 'plain-disk',
    });
    assert.deepEqual((await says('plain', 'NotFound')).status?.source, {});
  });

  it('follow the DataVolume that fills the claim, phase by phase', async () => {
    await make('filled', pvc('filled-disk'));
    await stack.create('filled-disk');
    await makeClaim('filled-disk');
    await says('filled', 'Pending');
    await stack.setStatus('filled-disk', { phase: 'ImportInProgress' });
    assert.deepEqual((await says('filled', 'ImportInProgress')).status?.source, {});
    await stack.setStatus('filled-disk', { phase: 'Succeeded' });
    assert.deepEqual((await says('filled', 'Ready')).status?.source, pvc('filled-disk'));
  });

  it('resolve another one, and follow that', async () => {
    await make('alias', another('today'));
    await says('alias', 'NotFound');
    await make('today', {}, 'v1alpha1');
    await says('alias', 'NoSource');
    await says('today', 'NoSource');
    await makeClaim('monday');
    await makeClaim('tuesday');
    await name('today', pvc('monday'));
    assert.deepEqual((await says('alias', 'Ready')).status?.source, pvc('monday'));
    await name('today', pvc('tuesday'));
    await eventually('the alias follows', async () => {
      return (await read('alias')).status?.source?.pvc?.name === 'tuesday';
    });
    assert.deepEqual((await read('alias')).spec.source, another('today'), 'its specification is the users’');
  });

  it('refuse loops, long chains, and another namespace', async () => {
    await make('self', another('self'));
    await make('ping', another('pong'));
    await make('pong', another('ping'));
    await make('long', another('alias'));
    await make('abroad', another('alias', 'default'));
    await says('self', 'SelfReference');
    await says('ping', 'MaxReferenceDepthReached');
    await says('pong', 'MaxReferenceDepthReached');
    await says('long', 'MaxReferenceDepthReached');
    assert.deepEqual((await says('abroad', 'CrossNamespaceReference')).status?.source, {});
  });

  it('say that a snapshot is not found where the cluster serves none', async () => {
    await make('snap', { snapshot: { namespace: stack.namespace, name: 's' } });
    assert.match((await says('snap', 'NotFound')).status?.conditions?.[0]?.message ?? '', /^Snapshot .*\/s /);
  });

  it('undo what somebody else writes into the status', async () => {
    const body = { status: { source: pvc('monday'), conditions: null } };
    const self = { ...PATH, namespace: stack.namespace, name: 'self', body };
    await custom.patchNamespacedCustomObject(self, MERGE_PATCH);
    await eventually('the status is true again', async () => {
      const { source, conditions } = (await read('self')).status ?? {};
      return !source?.pvc && conditions?.[0]?.reason === 'SelfReference';
    });
  });

  it('come to rest, and had every right that they needed', async () => {
    const versions = async (): Promise<readonly (string | undefined)[]> => {
      const list: unknown = await custom.listNamespacedCustomObject({ ...PATH, namespace: stack.namespace });
      return (list as { items: DataSource[] }).items.map(({ metadata }) => metadata.resourceVersion);
    };
    await pause(1500);
    const before = await versions();
    // longer than another list of everything takes to come
    await pause(6000);
    assert.deepEqual(await versions(), before);
    const warned = stack.log.filter(({ message }) => message === 'will be tried again');
    assert.deepEqual(
      warned.map(({ meta }) => meta),
      [],
    );
  });
});
