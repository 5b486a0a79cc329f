import assert from 'node:assert/strict';
import { accountName, awaitRight, hasRight } from '../support/accounts.js';
import { useStack } from '../support/stack.js';
import { ACCOUNTS, MAY_CLONE, useCloneScene, type Account } from './clone-scene.js';
import { as, refusal } from './requests.js';

/** Who may clone the claim `disk`, the claim `other`, and a snapshot of the source's namespace. */
const MAY: Readonly<Record<Account, readonly [disk: boolean, other: boolean, snapshot: boolean]>> = {
  default: [true, true, true],
  clones: [true, true, true],
  'runs-pods': [true, true, false],
  'runs-pods-with-claims': [true, true, true],
  'clones-disk': [true, false, false],
  reads: [false, false, false],
  stranger: [false, false, false],
};

describe('cloning from another namespace', function () {
  this.timeout(60_000);
  const stack = useStack();
  const scene = useCloneScene(stack);
  const { source, destination, disk, account, allowed, clone, dataSource, denied } = scene;
  const names = Object.keys(ACCOUNTS) as readonly Account[];

  names.forEach((name) => {
    const [mayDisk, mayOther, maySnapshot] = MAY[name];
    const rows: readonly (readonly [may: boolean, from: object, what: string])[] = [
      [mayDisk, disk, 'PVC'],
      [mayOther, { pvc: { namespace: source, name: 'other' } }, 'PVC'],
      [maySnapshot, { snapshot: { namespace: source, name: 'snap' } }, 'snapshot'],
    ];
    const answers = rows.map(([may]) => (may ? 'may' : 'may not')).join(', ');

    it(`${name}, with ${ACCOUNTS[name]}: ${answers}, and may offer to others what it may clone itself`, async () => {
      for (const [may, from, kind] of rows) {
        const written = [
          ['clone from', clone({ source: from })],
          ['offer', dataSource('offer', from)],
        ] as const;
        for (const [what, manifest] of written) {
          const message = await refusal(account(name), manifest);
          if (may) assert.equal(message, undefined);
          else
            assert.match(
              message ?? 'accepted',
              new RegExp(`insufficient permissions in .*: to ${what} ${kind} `),
            );
        }
      }
    });

    it(`${name} may do what it likes within its own namespace`, async () => {
      const own = { namespace: destination, name: 'disk' };
      await allowed(name, clone({ source: { pvc: own } }));
      await allowed(name, clone({ source: { snapshot: own } }));
      await allowed(name, clone({ sourceRef: { kind: 'DataSource', name: 'any' } }));
      await allowed(name, clone({ sourceRef: { kind: 'DataSource', name: 'any', namespace: '' } }));
      await allowed(name, dataSource('own', { pvc: own }));
      await allowed(name, dataSource('alias', { dataSource: own }));
      await allowed(name, dataSource('empty', { pvc: { namespace: '', name: 'disk' } }));
    });
  });

  it('is told in the words of CDI, with the cure', async () => {
    assert.equal(
      await refusal(account('stranger'), clone({ source: disk }, { name: 'copy' })),
      'datavolumes.cdi.kubevirt.io "copy" is forbidden: ValidatingAdmissionPolicy \'dvflow-clone-source\' with binding ' +
        `'dvflow-clone-source' denied request: User system:serviceaccount:${destination}:stranger has insufficient ` +
        `permissions in clone source namespace ${source}: to clone from PVC ${source}/disk takes the right to create ` +
        'datavolumes/source of cdi.kubevirt.io there, or to create pods',
    );
  });

  it("answers KubeVirt's own question about the ServiceAccount of a machine in the same way", async () => {
    const right = { ...MAY_CLONE, namespace: source, name: 'disk' };
    const ask = (name: Account): Promise<boolean> => hasRight(stack, { namespace: destination, name }, right);
    const answers = await Promise.all(names.map(async (name) => [name, await ask(name)] as const));
    assert.deepEqual(
      answers.filter(([, allows]) => allows).map(([name]) => name),
      ['default', 'clones', 'clones-disk'],
    );
  });

  it('is open to who has every right on CDI, as virt-controller has, and to administrators', async () => {
    const [user, role] = [accountName(destination, 'virt-controller'), `everything-in-${destination}`];
    await stack.kubectl([
      'create',
      'clusterrole',
      role,
      '--verb=*',
      '--resource=*.cdi.kubevirt.io,*.cdi.kubevirt.io/*',
    ]);
    await stack.kubectl([
      'create',
      'clusterrolebinding',
      role,
      `--clusterrole=${role}`,
      `--serviceaccount=${destination}:virt-controller`,
    ]);
    try {
      const account = { namespace: destination, name: 'virt-controller' };
      await awaitRight(stack, account, { ...MAY_CLONE, namespace: source });
      assert.equal(await refusal(as(stack.kubeConfig, user), clone({ source: disk })), undefined);
      assert.equal(await refusal(stack.kubeConfig, clone({ source: disk })), undefined);
    } finally {
      await stack.kubectl(['delete', 'clusterrole,clusterrolebinding', role]);
    }
  });

  it('ends with the right', async () => {
    await allowed('clones', clone({ source: disk }));
    await stack.kubectl(['delete', 'rolebinding', 'clones', '-n', source]);
    for (let left = 100; (await refusal(account('clones'), clone({ source: disk }))) === undefined; left--)
      assert.ok(left > 0, 'is still allowed');
    await denied('clones', clone({ source: disk }));
  });
});
