/** Starts from Temporal are judged as the Kubernetes user of their Temporal namespace (`design.md` §2, §8). */
import assert from 'node:assert/strict';
import { WorkflowFailedError } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import { useStack } from '../support/stack.js';
import { startFileServer, type FileServer } from '../support/servers/index.js';
import { makeImages, type Images } from './images.js';
import { assertSameDisk, createWorld, eventually, type World } from './world.js';

const USER = 'dvflow:temporal:default';
const STORAGE = { storageClassName: 'hostpath-provisioner', resources: { requests: { storage: '64Mi' } } };

describe('a clone that is started through Temporal', function () {
  this.timeout(120_000);
  const stack = useStack();
  let world: World;
  let images: Images;
  let server: FileServer;
  let [source, destination] = ['', ''];

  before('a disk in one namespace', async () => {
    world = createWorld(stack);
    images = await makeImages({ sizeMiB: 16, dataMiB: 8 });
    server = await startFileServer({ path: await images.as('qcow2') });
    source = await world.createNamespace('source');
    destination = await world.createNamespace('destination');
    await world.createImport(source, 'disk', { url: server.url });
    await world.awaitPhase(source, 'disk', 'Succeeded');
    const spec = { source: { pvc: { namespace: source, name: 'disk' } } };
    const golden = {
      apiVersion: 'cdi.kubevirt.io/v1beta1',
      kind: 'DataSource',
      metadata: { name: 'golden' },
      spec,
    };
    await stack.kubectl(['create', '-n', source, '-f', '-'], { input: JSON.stringify(golden) });
  });
  after(async () => {
    for (const name of [source, destination]) await world.core.deleteNamespace({ name });
    await server.close();
    await images.remove();
  });

  const manifest = (
    name: string,
    from: object,
    apiVersion = 'cdi.kubevirt.io/v1beta1',
    annotations: object = {},
  ) => ({
    apiVersion,
    kind: 'DataVolume',
    metadata: {
      name,
      namespace: destination,
      annotations: { 'cdi.kubevirt.io/storage.bind.immediate.requested': '', ...annotations },
    },
    spec: { ...from, storage: STORAGE },
  });
  const start = async (argument: { metadata: { name: string } } | string, name: string): Promise<unknown> => {
    const options = { args: [argument], taskQueue: 'dvflow', workflowId: `${destination}-${name}` };
    return await (await stack.temporal.workflow.start('cloneDataVolume', options)).result();
  };
  const own = (): object => ({ source: { pvc: { namespace: source, name: 'disk' } } });

  async function denied(argument: ReturnType<typeof manifest> | string, name: string): Promise<void> {
    const error: unknown = await start(argument, name).then(
      () => assert.fail(`${name} was allowed`),
      (failure: unknown) => failure,
    );
    assert.ok(error instanceof WorkflowFailedError, String(error));
    let cause: Error | undefined = error.cause;
    while (cause && !(cause instanceof ApplicationFailure)) cause = cause.cause as Error | undefined;
    assert.ok(cause instanceof ApplicationFailure);
    assert.equal(cause.type, 'NotAuthorized', cause.message);
    assert.match(
      cause.message,
      new RegExp(`User ${USER} has insufficient permissions in clone source namespace ${source}: `),
    );
    assert.equal(await world.read(destination, name), undefined, 'the DataVolume was made');
    assert.equal(await world.claim(destination, name), undefined);
  }

  it('is refused where its user may not clone, and makes nothing', async () => {
    await denied(manifest('plain', own()), 'plain');
    await denied(manifest('old', own(), 'cdi.kubevirt.io/v1alpha1'), 'old');
    await denied(JSON.stringify(manifest('text', own())), 'text');
    const forged = {
      'cdi.kubevirt.io/storage.prePopulated': 'x',
      'cdi.kubevirt.io/storage.clone.token': 'x',
    };
    await denied(manifest('forged', own(), undefined, forged), 'forged');
    const reference = { sourceRef: { kind: 'DataSource', namespace: source, name: 'golden' } };
    await denied(manifest('by-reference', reference), 'by-reference');
  });

  it('may not be judged as anybody else: a mark of another workflow opens nothing either', async () => {
    const marked = manifest('marked', own(), undefined, { 'dvflow.io/workflow-id': 'someone-else' });
    const error = await start(marked, 'marked').catch((failure: unknown) => failure);
    assert.ok(error instanceof WorkflowFailedError);
    assert.equal(await world.read(destination, 'marked'), undefined);
  });

  it('is made once its user may clone there', async () => {
    const role = ['--clusterrole=cdi.kubevirt.io:clone-sourcer', `--user=${USER}`];
    await stack.kubectl(['create', 'rolebinding', 'temporal-clones', '-n', source, ...role]);
    const ask = [
      'auth',
      'can-i',
      'create',
      'datavolumes.cdi.kubevirt.io',
      '--subresource=source',
      '-n',
      source,
    ];
    await eventually('the right is known', 30_000, async () =>
      (await stack.kubectl(ask, { as: USER }).catch(() => 'no')).startsWith('yes') ? true : undefined,
    );
    await start(manifest('granted', own()), 'granted');
    await assertSameDisk(images.raw, 'raw', await world.diskOf(destination, 'granted'));
    const made = await world.read(destination, 'granted');
    assert.equal(made?.metadata.annotations?.['dvflow.io/workflow-id'], `${destination}-granted`);
  });
});
