import assert from 'node:assert/strict';
import { useStack, type TestStack } from '../support/stack.js';
import { as, claim, create, dataVolume, refusal, storage, type Manifest } from './requests.js';

const CONTROL = 'system:serviceaccount:dvflow:dvflow-control';
const TEMPORAL = 'dvflow:temporal:default';
const UPLOAD = { source: { upload: {} }, storage: storage('1Gi') };

/** The guarded kinds, each with a valid object. */
const KINDS: readonly (readonly [resource: string, make: (name: string, metadata: object) => Manifest])[] = [
  ['dv', (name, metadata) => merge(dataVolume(name, UPLOAD), metadata)],
  [
    'datavolumes.v1alpha1.cdi.kubevirt.io',
    (name, metadata) => merge(dataVolume(name, UPLOAD, { version: 'v1alpha1' }), metadata),
  ],
  ['pvc', persistentVolumeClaim],
  ['pv', persistentVolume],
];

describe('marks of dvflow', function () {
  this.timeout(30_000);
  const stack = useStack();

  before('a user with rights to everything', async () => {
    await stack.kubectl([
      'create',
      'clusterrolebinding',
      'marks-alice',
      '--clusterrole=cluster-admin',
      '--user=alice',
    ]);
    // The workers' own account has no right to create DataVolumes; here only the policy is asked.
    await stack.kubectl([
      'create',
      'clusterrolebinding',
      'marks-control',
      '--clusterrole=cluster-admin',
      `--user=${CONTROL}`,
    ]);
  });

  after(async () => {
    await stack.kubectl(['delete', 'clusterrolebinding', 'marks-alice', 'marks-control']);
  });

  KINDS.forEach(([resource, make], index) => {
    describe(resource, () => {
      const name = `marked-${index}`;

      [undefined, 'alice'].forEach((user) => {
        const who = user ?? 'the administrator';
        (['labels', 'annotations'] as const).forEach((where) => {
          it(`are not made by ${who} as ${where}`, async () => {
            const manifest = make(`forged-${index}`, { [where]: { 'dvflow.io/unpublished': 'x' } });
            assert.match(
              (await refusal(asUser(stack, user), manifest)) ?? 'accepted',
              refusalOf(where, 'unpublished'),
            );
          });
        });
      });

      it('are not changed or removed once the control worker has set them, while everything else is', async () => {
        const marks = {
          labels: { 'dvflow.io/unpublished': 'uid' },
          annotations: { 'dvflow.io/workflow-id': 'w' },
        };
        assert.equal(await create(asUser(stack, CONTROL), make(name, marks)), undefined);
        for (const user of [undefined, 'alice']) {
          await refused(stack, ['label', '--overwrite', resource, name, 'dvflow.io/unpublished=other'], user);
          await refused(stack, ['label', resource, name, 'dvflow.io/unpublished-'], user);
          await refused(stack, ['label', resource, name, 'dvflow.io/new=x'], user);
          await refused(
            stack,
            ['annotate', '--overwrite', resource, name, 'dvflow.io/workflow-id=other'],
            user,
          );
          await refused(stack, ['annotate', resource, name, 'dvflow.io/workflow-id-'], user);
          await refused(stack, ['annotate', resource, name, 'dvflow.io/retried=x'], user);
        }
        await stack.kubectl(['annotate', resource, name, 'example.com/note=x']);
        await stack.kubectl(['label', resource, name, 'example.com/note=x']);
        await stack.kubectl(['label', resource, name, 'dvflow.io/unpublished-'], { as: CONTROL });
        await stack.kubectl(['annotate', resource, name, 'dvflow.io/workflow-id-'], { as: CONTROL });
      });

      it('that a user may set are set, changed and removed', async () => {
        const user = 'alice';
        for (const key of ['retry', 'deadline', 'upload-spool']) {
          await stack.kubectl(['annotate', resource, name, `dvflow.io/${key}=1`], { as: user });
          await stack.kubectl(['annotate', '--overwrite', resource, name, `dvflow.io/${key}=2`], {
            as: user,
          });
          await stack.kubectl(['annotate', resource, name, `dvflow.io/${key}-`], { as: user });
        }
      });

      it('do not stand in the way of a deletion', async () => {
        await stack.kubectl(['label', resource, name, 'dvflow.io/unpublished=uid'], { as: CONTROL });
        await stack.kubectl(['delete', '--wait=false', resource, name], { as: 'alice' });
      });
    });
  });

  it('are not set through the status of a claim or volume either', async () => {
    await create(stack.kubeConfig, persistentVolumeClaim('status', {}));
    const patch = JSON.stringify({ metadata: { annotations: { 'dvflow.io/workflow-id': 'x' } } });
    await refused(
      stack,
      ['patch', 'pvc', 'status', '--subresource=status', '--type=merge', '-p', patch],
      'alice',
    );
  });

  it("do not stand in the way of Kubernetes' own controllers, which bind and release a marked claim", async () => {
    const control = asUser(stack, CONTROL);
    const labels = { 'dvflow.io/unpublished': 'uid' };
    await create(control, persistentVolumeClaim('bound', { labels }));
    const uid = await stack.kubectl(['get', 'pvc', 'bound', '-o', 'jsonpath={.metadata.uid}']);
    const volume = persistentVolume('bound', { labels });
    const claimRef = {
      kind: 'PersistentVolumeClaim',
      apiVersion: 'v1',
      namespace: 'default',
      name: 'bound',
      uid,
    };
    await create(control, { ...volume, spec: { ...(volume.spec as object), claimRef } });
    await stack.kubectl([
      'wait',
      '--timeout=20s',
      '--for=jsonpath={.status.phase}=Bound',
      'pvc/bound',
      'pv/bound',
    ]);
    await stack.kubectl(['delete', 'pvc', 'bound']);
    await stack.kubectl(['wait', '--timeout=20s', '--for=jsonpath={.status.phase}=Released', 'pv/bound']);
    await stack.kubectl(['delete', 'pv', 'bound']);
  });

  it('let a start from Temporal name its workflow in the create call, and there only', async () => {
    const named = (name: string): Manifest =>
      merge(dataVolume(name, UPLOAD), { annotations: { 'dvflow.io/workflow-id': 'w' } });
    await stack.kubectl([
      'create',
      'clusterrolebinding',
      'marks-temporal',
      '--clusterrole=cluster-admin',
      `--user=${TEMPORAL}`,
    ]);
    try {
      assert.equal(await create(asUser(stack, TEMPORAL), named('from-temporal')), undefined);
      assert.match(
        (await refusal(asUser(stack, 'alice'), named('from-alice'))) ?? '',
        refusalOf('annotations', 'workflow-id'),
      );
      await refused(
        stack,
        ['annotate', '--overwrite', 'dv', 'from-temporal', 'dvflow.io/workflow-id=v'],
        TEMPORAL,
      );
      const other = merge(dataVolume('other', UPLOAD), { annotations: { 'dvflow.io/retried': 'x' } });
      assert.match(
        (await refusal(asUser(stack, TEMPORAL), other)) ?? '',
        refusalOf('annotations', 'retried'),
      );
      const claimed = persistentVolumeClaim('other', { annotations: { 'dvflow.io/workflow-id': 'w' } });
      assert.match(
        (await refusal(asUser(stack, TEMPORAL), claimed)) ?? '',
        refusalOf('annotations', 'workflow-id'),
      );
    } finally {
      await stack.kubectl(['delete', 'clusterrolebinding', 'marks-temporal']);
    }
  });
});

function merge(manifest: Manifest, metadata: object): Manifest {
  return { ...manifest, metadata: { ...manifest.metadata, ...metadata } };
}

function persistentVolumeClaim(name: string, metadata: object): Manifest {
  const spec = { ...claim('1Gi'), storageClassName: 'nobody' };
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: { name, namespace: 'default', ...metadata },
    spec,
  };
}

function persistentVolume(name: string, metadata: object): Manifest {
  const spec = {
    accessModes: ['ReadWriteOnce'],
    capacity: { storage: '1Gi' },
    storageClassName: 'nobody',
    persistentVolumeReclaimPolicy: 'Retain',
    hostPath: { path: '/nowhere' },
  };
  return { apiVersion: 'v1', kind: 'PersistentVolume', metadata: { name, ...metadata }, spec };
}

function asUser(stack: TestStack, user: string | undefined): TestStack['kubeConfig'] {
  return user === undefined ? stack.kubeConfig : as(stack.kubeConfig, user);
}

function refusalOf(where: 'labels' | 'annotations', key: string): RegExp {
  return new RegExp(`only dvflow may set, change or remove the ${where.slice(0, -1)} dvflow.io/${key}`);
}

async function refused(stack: TestStack, args: readonly string[], user: string | undefined): Promise<void> {
  const request = stack.kubectl(args, user === undefined ? {} : { as: user });
  await assert.rejects(request, /only dvflow may set, change or remove the (label|annotation) dvflow\.io\//);
}
