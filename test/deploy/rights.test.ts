import assert from 'node:assert/strict';
import { AuthorizationV1Api } from '@kubernetes/client-node';
import { useStack } from '../support/stack.js';
import { as, create, dataVolume, storage } from './requests.js';

const CONTROL = 'system:serviceaccount:dvflow:dvflow-control';
const NODE = 'system:serviceaccount:dvflow-nodes:dvflow-node';
const GATEWAY = 'system:serviceaccount:dvflow:dvflow-gateway';
const TEMPORAL = 'dvflow:temporal:default';

/** A row: who, which verbs, on what (`group/resource[/subresource]`), in which namespace (`*`: everywhere), and the answer. */
type Row = readonly [user: string, verbs: string, on: string, namespace: string, allowed: boolean];

const ROWS: readonly Row[] = [
  [CONTROL, 'get list watch update patch', 'cdi.kubevirt.io/datavolumes', '*', true],
  [CONTROL, 'create delete deletecollection', 'cdi.kubevirt.io/datavolumes', '*', false],
  [CONTROL, 'get update patch', 'cdi.kubevirt.io/datavolumes/status', '*', true],
  [CONTROL, 'get list watch create update patch delete', '/persistentvolumeclaims', '*', true],
  [CONTROL, 'get list watch create update patch delete', '/persistentvolumes', '*', true],
  [CONTROL, 'deletecollection', '/persistentvolumeclaims', '*', false],
  [CONTROL, 'create patch', '/events', '*', true],
  [CONTROL, 'get list watch', '/nodes', '*', true],
  [CONTROL, 'update patch delete', '/nodes', '*', false],
  [CONTROL, 'get list watch', 'storage.k8s.io/storageclasses', '*', true],
  [CONTROL, 'create delete', 'storage.k8s.io/storageclasses', '*', true],
  [CONTROL, 'update patch deletecollection', 'storage.k8s.io/storageclasses', '*', false],
  [CONTROL, 'get list create update delete', 'machineconfiguration.openshift.io/machineconfigs', '*', true],
  [CONTROL, 'patch deletecollection', 'machineconfiguration.openshift.io/machineconfigs', '*', false],
  [CONTROL, 'list', 'machineconfiguration.openshift.io/machineconfigpools', '*', true],
  [CONTROL, 'get update patch', 'machineconfiguration.openshift.io/machineconfigpools', '*', false],
  [CONTROL, 'get list watch', 'storage.k8s.io/csidrivers', '*', true],
  [CONTROL, 'get list watch create update delete', 'cdi.kubevirt.io/storageprofiles', '*', true],
  [CONTROL, 'update', 'cdi.kubevirt.io/storageprofiles/status', '*', true],
  [CONTROL, 'deletecollection', 'cdi.kubevirt.io/storageprofiles', '*', false],
  [CONTROL, 'get list watch create update', 'cdi.kubevirt.io/cdiconfigs', '*', true],
  [CONTROL, 'delete', 'cdi.kubevirt.io/cdiconfigs', '*', false],
  [CONTROL, 'get list watch update', 'cdi.kubevirt.io/cdis', '*', true],
  [CONTROL, 'create delete', 'cdi.kubevirt.io/cdis', '*', false],
  [CONTROL, 'get list watch update', 'cdi.kubevirt.io/datasources', '*', true],
  [CONTROL, 'create delete deletecollection', 'cdi.kubevirt.io/datasources', '*', false],
  [CONTROL, 'list', 'snapshot.storage.k8s.io/volumesnapshotclasses', '*', true],
  [CONTROL, 'get', 'snapshot.storage.k8s.io/volumesnapshots', '*', true],
  [CONTROL, 'list create update delete', 'snapshot.storage.k8s.io/volumesnapshots', '*', false],
  [CONTROL, 'get list create update delete', 'storage.k8s.io/csistoragecapacities', 'dvflow', true],
  [CONTROL, 'create update delete', 'storage.k8s.io/csistoragecapacities', 'default', false],
  [CONTROL, 'create update delete', 'storage.k8s.io/csidrivers', '*', false],
  [CONTROL, 'get list watch', 'hostpathprovisioner.kubevirt.io/hostpathprovisioners', '*', true],
  [CONTROL, 'create update patch delete', 'hostpathprovisioner.kubevirt.io/hostpathprovisioners', '*', false],
  [CONTROL, 'update patch', 'hostpathprovisioner.kubevirt.io/hostpathprovisioners/status', '*', true],
  [CONTROL, 'get', '/secrets', '*', true],
  [CONTROL, 'list watch create update patch delete', '/secrets', '*', false],
  [CONTROL, 'get', '/configmaps', '*', true],
  [CONTROL, 'list create update', '/configmaps', '*', false],
  [CONTROL, 'get list create update patch delete', '/secrets', 'dvflow-transfers', true],
  [CONTROL, 'watch deletecollection', '/secrets', 'dvflow-transfers', false],
  [CONTROL, 'list create update patch delete', '/secrets', 'dvflow', false],
  [CONTROL, 'list create update patch delete', '/secrets', 'dvflow-nodes', false],
  [CONTROL, 'list', '/pods', '*', true],
  [CONTROL, 'create get watch delete', '/pods', '*', false],
  [CONTROL, 'create', '/pods/exec', '*', false],
  [CONTROL, 'create', '/serviceaccounts/token', 'dvflow', false],
  [CONTROL, 'impersonate', '/groups', '*', false],
  [CONTROL, 'impersonate', '/serviceaccounts', '*', false],
  [CONTROL, 'create bind escalate', 'rbac.authorization.k8s.io/clusterroles', '*', false],
  [NODE, 'get', '/secrets', 'dvflow-transfers', true],
  [NODE, 'list watch create update patch delete', '/secrets', 'dvflow-transfers', false],
  [NODE, 'get list', '/secrets', 'default', false],
  [NODE, 'get list', '/secrets', 'dvflow', false],
  [NODE, 'get list', '/configmaps', 'default', false],
  [NODE, 'get list watch create update patch delete', '/persistentvolumes', '*', false],
  [NODE, 'get list watch create update patch delete', '/persistentvolumeclaims', '*', false],
  [NODE, 'get list create', 'cdi.kubevirt.io/datavolumes', '*', false],
  [NODE, 'get list', '/nodes', '*', false],
  [NODE, 'create', '/events', '*', false],
  [NODE, 'impersonate', '/users', '*', false],
  [GATEWAY, 'get', '/persistentvolumeclaims', '*', true],
  [GATEWAY, 'list watch create update patch delete', '/persistentvolumeclaims', '*', false],
  [GATEWAY, 'get', 'cdi.kubevirt.io/datavolumes', '*', true],
  [GATEWAY, 'list create update patch delete', 'cdi.kubevirt.io/datavolumes', '*', false],
  [GATEWAY, 'create', 'authorization.k8s.io/subjectaccessreviews', '*', true],
  [GATEWAY, 'create', 'upload.cdi.kubevirt.io/uploadtokenrequests', '*', false],
  [GATEWAY, 'get list create update', '/secrets', '*', false],
  [GATEWAY, 'get list create', '/secrets', 'dvflow', false],
  [GATEWAY, 'get', '/secrets', 'dvflow-transfers', false],
  [GATEWAY, 'create get list', '/pods', '*', false],
  [GATEWAY, 'impersonate', '/users', '*', false],
  [TEMPORAL, 'create get', 'cdi.kubevirt.io/datavolumes', 'default', true],
  [TEMPORAL, 'list update patch delete', 'cdi.kubevirt.io/datavolumes', 'default', false],
  [TEMPORAL, 'create', 'hostpathprovisioner.kubevirt.io/hostpathprovisioners', '*', true],
  [TEMPORAL, 'get update patch delete', 'hostpathprovisioner.kubevirt.io/hostpathprovisioners', '*', false],
  [NODE, 'get list', 'machineconfiguration.openshift.io/machineconfigs', '*', false],
  [TEMPORAL, 'get', '/secrets', 'default', false],
  ['alice', 'get list watch', 'cdi.kubevirt.io/cdiconfigs', '*', true],
  ['alice', 'get list watch', 'cdi.kubevirt.io/storageprofiles', '*', true],
  ['alice', 'update patch', 'cdi.kubevirt.io/cdiconfigs', '*', false],
  ['alice', 'get create', 'cdi.kubevirt.io/datavolumes', 'default', false],
];

describe('rights', function () {
  this.timeout(20_000);
  const stack = useStack();

  ROWS.forEach((row) => {
    const [user, verbs, on, namespace, allowed] = row;
    const place = namespace === '*' ? 'everywhere' : `in ${namespace}`;
    it(`${user} ${allowed ? 'may' : 'may not'} ${verbs} ${on} ${place}`, async () => {
      for (const verb of verbs.split(' '))
        assert.equal(await may({ user, verb, on, namespace }), allowed, `${verb} ${on}`);
    });
  });

  it('the control worker becomes the user of its Temporal namespace and nobody else', async () => {
    const impersonate = async (name: string): Promise<boolean> =>
      await may({ user: CONTROL, verb: 'impersonate', on: '/users', namespace: '*', name });
    assert.equal(await impersonate(TEMPORAL), true);
    assert.equal(await impersonate('dvflow:temporal:other'), false);
    assert.equal(await impersonate('admin'), false);
  });

  it('the control worker writes to the Secrets of certificates and to no other of their namespaces', async () => {
    const write = async (namespace: string, name: string): Promise<boolean> =>
      await may({ user: CONTROL, verb: 'update', on: '/secrets', namespace, name });
    assert.equal(await write('dvflow', 'dvflow-authority'), true);
    assert.equal(await write('dvflow', 'dvflow-gateway-certificate'), true);
    assert.equal(await write('dvflow-nodes', 'dvflow-node-certificate'), true);
    assert.equal(await write('dvflow', 'dvflow-node-certificate'), false);
    assert.equal(await write('dvflow', 'other'), false);
    assert.equal(
      await may({ user: NODE, verb: 'get', on: '/secrets', namespace: 'dvflow', name: 'dvflow-authority' }),
      false,
    );
  });

  it('the control worker tells kube-apiserver how to know the gateway, and changes no other API', async () => {
    const on = 'apiregistration.k8s.io/apiservices';
    for (const verb of ['get', 'update']) {
      const allowed = async (name: string): Promise<boolean> =>
        await may({ user: CONTROL, verb, on, namespace: '*', name });
      assert.equal(await allowed('v1beta1.upload.cdi.kubevirt.io'), true, verb);
      assert.equal(await allowed('v1beta1.metrics.k8s.io'), false, verb);
    }
    assert.equal(await may({ user: CONTROL, verb: 'create', on, namespace: '*' }), false);
  });

  it('the gateway reads and changes its signing keys, and how the front proxy proves itself, by name', async () => {
    const allowed = async (verb: string, on: string, place: { namespace: string; name: string }) =>
      await may({ user: GATEWAY, verb, on, ...place });
    const keys = { namespace: 'dvflow', name: 'dvflow-upload-signing-keys' };
    for (const verb of ['get', 'update']) assert.equal(await allowed(verb, '/secrets', keys), true, verb);
    assert.equal(await allowed('delete', '/secrets', keys), false);
    const other = { namespace: 'dvflow', name: 'dvflow-authority' };
    for (const verb of ['get', 'update']) assert.equal(await allowed(verb, '/secrets', other), false, verb);
    const proxy = { namespace: 'kube-system', name: 'extension-apiserver-authentication' };
    assert.equal(await allowed('get', '/configmaps', proxy), true);
    assert.equal(await allowed('get', '/configmaps', { ...proxy, name: 'other' }), false);
  });

  it('both workers read where the API servers are, and no other endpoints', async () => {
    const on = 'discovery.k8s.io/endpointslices';
    for (const user of [CONTROL, NODE]) {
      const read = async (name: string): Promise<boolean> =>
        await may({ user, verb: 'get', on, namespace: 'default', name });
      assert.equal(await read('kubernetes'), true);
      assert.equal(await read('other'), false);
      assert.equal(await may({ user, verb: 'list', on, namespace: 'default' }), false);
    }
  });

  it('on OpenShift each worker may use the one security context constraint that its pod needs', async () => {
    const on = 'security.openshift.io/securitycontextconstraints';
    for (const [user, namespace, name, other] of [
      [NODE, 'dvflow-nodes', 'privileged', 'hostaccess'],
      [CONTROL, 'dvflow', 'nonroot-v2', 'privileged'],
    ] as const) {
      assert.equal(await may({ user, verb: 'use', on, namespace, name }), true);
      assert.equal(await may({ user, verb: 'use', on, namespace, name: other }), false);
      assert.equal(await may({ user, verb: 'use', on, namespace: 'default', name }), false);
    }
  });

  it("CDI's roles reach a namespace's admin, editor and viewer by aggregation", async () => {
    const namespace = 'default';
    for (const role of ['admin', 'edit', 'view'])
      await stack.kubectl([
        'create',
        'rolebinding',
        `rights-${role}`,
        `--clusterrole=${role}`,
        `--user=${role}or`,
        '-n',
        namespace,
      ]);
    for (const user of ['adminor', 'editor']) {
      assert.equal(
        await eventually({ user, verb: 'create', on: 'cdi.kubevirt.io/datavolumes', namespace }),
        true,
      );
      assert.equal(
        await may({ user, verb: 'create', on: 'cdi.kubevirt.io/datavolumes/source', namespace }),
        true,
      );
      assert.equal(
        await may({ user, verb: 'create', on: 'upload.cdi.kubevirt.io/uploadtokenrequests', namespace }),
        true,
      );
    }
    assert.equal(
      await eventually({ user: 'viewor', verb: 'list', on: 'cdi.kubevirt.io/datavolumes', namespace }),
      true,
    );
    assert.equal(
      await may({ user: 'viewor', verb: 'create', on: 'cdi.kubevirt.io/datavolumes', namespace }),
      false,
    );
  });

  it('a user without a role makes no DataVolume', async () => {
    const manifest = dataVolume('not-allowed', { source: { upload: {} }, storage: storage('1Gi') });
    const message = await create(as(stack.kubeConfig, 'alice'), manifest);
    assert.match(message ?? '', /User "alice" cannot create resource "datavolumes"/);
  });

  interface Question {
    readonly user: string;
    readonly verb: string;
    readonly on: string;
    readonly namespace: string;
    readonly name?: string;
  }

  async function may({ user, verb, on, namespace, name }: Question): Promise<boolean> {
    const [group = '', resource = '', subresource] = on.split('/');
    const resourceAttributes = {
      verb,
      group,
      resource,
      ...(subresource ? { subresource } : {}),
      ...(name ? { name } : {}),
      ...(namespace === '*' ? {} : { namespace }),
    };
    const body = { spec: { user, groups: groupsOf(user), resourceAttributes } };
    const review = await stack.kubeConfig
      .makeApiClient(AuthorizationV1Api)
      .createSubjectAccessReview({ body });
    return review.status?.allowed ?? false;
  }

  /** Asks until the answer is yes: the controller manager aggregates roles a moment after they appear. */
  async function eventually(question: Question): Promise<boolean> {
    while (!(await may(question))) await new Promise((resolve) => setTimeout(resolve, 100));
    return true;
  }
});

function groupsOf(user: string): string[] {
  const [, , namespace] = user.startsWith('system:serviceaccount:') ? user.split(':') : [];
  const accounts = namespace ? ['system:serviceaccounts', `system:serviceaccounts:${namespace}`] : [];
  return ['system:authenticated', ...accounts];
}
