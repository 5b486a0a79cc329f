/** Two namespaces, and ServiceAccounts of the second one with different rights in the first, where the disks lie. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { CustomObjectsApi, type KubeConfig, type V1ResourceAttributes } from '@kubernetes/client-node';
import { MERGE_PATCH } from '../../activities/kubernetes/client.js';
import { documented } from '../documentation/documented.js';
import { accountName, awaitRight, createAccount } from '../support/accounts.js';
import type { TestStack } from '../support/stack.js';
import { messageOf, refusal, storage, type Manifest } from './requests.js';

/** Where the objects lie that a test patches. */
export const PATHS = {
  dv: { group: 'cdi.kubevirt.io', version: 'v1beta1', plural: 'datavolumes' },
  das: { group: 'cdi.kubevirt.io', version: 'v1beta1', plural: 'datasources' },
} as const;

/** Both versions of the API. */
export const VERSIONS = ['v1beta1', 'v1alpha1'] as const;

/** The ServiceAccounts of the destination, and what each has in the namespace of the source. */
export const ACCOUNTS = {
  default: 'the right of the documentation (M17)',
  clones: 'create on datavolumes/source',
  'runs-pods': 'create on pods',
  'runs-pods-with-claims': 'create on pods and claims',
  'clones-disk': 'create on datavolumes/source, for a claim of one name',
  reads: 'get on everything of CDI, and on claims',
  stranger: 'nothing',
} as const;
export type Account = keyof typeof ACCOUNTS;

/** Roles in the source's namespace, as kubectl makes them. */
const ROLES: Partial<Record<Account, readonly string[]>> = {
  clones: ['--verb=create', '--resource=datavolumes.cdi.kubevirt.io/source'],
  'runs-pods': ['--verb=create', '--resource=pods'],
  'runs-pods-with-claims': ['--verb=create', '--resource=pods,persistentvolumeclaims'],
  'clones-disk': ['--verb=create', '--resource=datavolumes.cdi.kubevirt.io/source', '--resource-name=disk'],
  reads: [
    '--verb=get,list,watch',
    '--resource=datavolumes.cdi.kubevirt.io,datasources.cdi.kubevirt.io,persistentvolumeclaims',
  ],
};

const CDI = 'cdi.kubevirt.io';

/** The right to clone, of which the namespace of the source is left out. */
export const MAY_CLONE = {
  group: CDI,
  resource: 'datavolumes',
  subresource: 'source',
  verb: 'create',
} as const;

/** One of the rights in the source's namespace of each account that has any. */
const RIGHTS: Partial<Record<Account, V1ResourceAttributes>> = {
  default: MAY_CLONE,
  clones: MAY_CLONE,
  'runs-pods': { resource: 'pods', verb: 'create' },
  'runs-pods-with-claims': { resource: 'persistentvolumeclaims', verb: 'create' },
  'clones-disk': { ...MAY_CLONE, name: 'disk' },
  reads: { resource: 'persistentvolumeclaims', verb: 'get' },
};

/** What tests of these rights use; accounts are there once a `before` hook has run. */
export interface CloneScene {
  /** Namespace of the disks. */
  readonly source: string;
  /** Namespace of the accounts. */
  readonly destination: string;
  /** The source of a clone that is to be judged. */
  readonly disk: { readonly pvc: { readonly namespace: string; readonly name: string } };
  /** The way in with the account's own token. */
  readonly account: (name: Account) => KubeConfig;
  /** A DataVolume of the destination with this source or reference, and more metadata. */
  readonly clone: (from: object, options?: Options) => Manifest;
  /** A DataSource of the destination, and more members. */
  readonly dataSource: (name: string, source: object, options?: Options) => Manifest;
  /** Asserts that an account is told why it may not write this; nothing is kept. */
  readonly denied: (name: Account, manifest: Manifest, what?: string) => Promise<void>;
  /** Asserts that an account may write this; nothing is kept. */
  readonly allowed: (name: Account, manifest: Manifest) => Promise<void>;
  /** The end of a refusal: `denial(user, 'clone from PVC a/b')`. */
  readonly denial: (user: string, what: string) => string;
  /** Merges into an object of the destination. Resolves with the refusal, or undefined. */
  readonly patch: (
    who: KubeConfig,
    kind: keyof typeof PATHS,
    name: string,
    body: object,
    version?: string,
  ) => Promise<string | undefined>;
}

/** `version` of the API, by default the stored one, and whatever else is to be in the manifest. */
interface Options {
  readonly version?: string;
  readonly [field: string]: unknown;
}

/** Makes the scene for a suite. Called in the body of `describe`. */
export function useCloneScene(stack: TestStack): CloneScene {
  const suffix = randomUUID().slice(0, 8);
  const [source, destination] = [`source-${suffix}`, `destination-${suffix}`];
  const accounts = new Map<Account, KubeConfig>();

  before('two namespaces, and ServiceAccounts with their tokens', async function () {
    // some thirty calls of kubectl, and what Kubernetes makes of them
    this.timeout(180_000);
    for (const namespace of [source, destination]) await stack.kubectl(['create', 'namespace', namespace]);
    for (const name of Object.keys(ACCOUNTS) as Account[]) {
      accounts.set(name, await createAccount(stack, destination, name));
      const binding = ['create', 'rolebinding', name, `--serviceaccount=${destination}:${name}`];
      await stack.kubectl([...binding, '-n', destination, '--clusterrole=cdi.kubevirt.io:edit']);
      const role = ROLES[name];
      if (!role) continue;
      await stack.kubectl(['create', 'role', name, '-n', source, ...role]);
      await stack.kubectl([...binding, '-n', source, `--role=${name}`]);
    }
    const input = documented('clone-rights', {
      'namespace: default }': `namespace: ${source} }`,
      'namespace: destination }': `namespace: ${destination} }`,
    });
    await stack.kubectl(['create', '-f', '-'], { input });
    // what was just written counts a moment later
    const edits = { namespace: destination, group: CDI, resource: 'datavolumes', verb: 'create' };
    for (const name of Object.keys(ACCOUNTS) as Account[]) {
      const account = { namespace: destination, name };
      await awaitRight(stack, account, edits);
      const right = RIGHTS[name];
      if (right) await awaitRight(stack, account, { ...right, namespace: source });
    }
  });
  after(async () => {
    await stack.kubectl(['delete', 'clusterrole', 'datavolume-cloner', '--ignore-not-found']);
    await stack.kubectl(['delete', 'namespace', '--wait=false', source, destination]);
  });

  function account(name: Account): KubeConfig {
    const config = accounts.get(name);
    assert.ok(config, `there is no account ${name} yet`);
    return config;
  }

  function object(kind: string, metadata: object, rest: object, version = 'v1beta1'): Manifest {
    const named = { name: `clone-${randomUUID().slice(0, 8)}`, namespace: destination, ...metadata };
    return { apiVersion: `cdi.kubevirt.io/${version}`, kind, metadata: named, ...rest };
  }

  const denial: CloneScene['denial'] = (user, what) =>
    `User ${user} has insufficient permissions in clone source namespace ${source}: to ${what} takes the right to create ` +
    'datavolumes/source of cdi.kubevirt.io there, or to create pods';

  return {
    source,
    destination,
    disk: { pvc: { namespace: source, name: 'disk' } },
    account,
    clone: (from, { version, ...metadata } = {}) =>
      object('DataVolume', metadata, { spec: { ...from, storage: storage('1Gi') } }, version),
    dataSource: (name, from, { version, ...rest } = {}) =>
      object('DataSource', { name }, { spec: { source: from }, ...rest }, version),
    denial,
    async denied(name, manifest, what = `clone from PVC ${source}/disk`) {
      const message = (await refusal(account(name), manifest)) ?? 'accepted';
      assert.ok(message.endsWith(denial(accountName(destination, name), what)), message);
    },
    async allowed(name, manifest) {
      assert.equal(await refusal(account(name), manifest), undefined, name);
    },
    async patch(who, kind, name, body, version = 'v1beta1') {
      const request = { ...PATHS[kind], version, namespace: destination, name, body };
      return await messageOf(
        who.makeApiClient(CustomObjectsApi).patchNamespacedCustomObject(request, MERGE_PATCH),
      );
    },
  };
}
