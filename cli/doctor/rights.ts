/** Whether the accounts of dvflow have the rights that `deploy/rbac` gives them: asked, rule by rule, of the API server. */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { AuthorizationV1Api, KubeConfig } from '@kubernetes/client-node';
import { parseAllDocuments } from 'yaml';
import { projectRoot } from '../../local/paths.js';
import { read, type Reading } from './reading.js';

/** One right of one account. */
interface Right {
  readonly verb: string;
  readonly group: string;
  readonly resource: string;
  readonly subresource?: string;
  readonly name?: string;
  /** Absent: in all namespaces. */
  readonly namespace?: string;
}

/** An account of dvflow, and what it lacks, in words. */
export interface AccountRights {
  /** `dvflow/dvflow-control` */
  readonly account: string;
  /** How many rights were asked for. */
  readonly asked: number;
  readonly missing: readonly string[];
}

interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly verbs: readonly string[];
}

interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly rules?: readonly Rule[];
  readonly roleRef?: { readonly kind: string; readonly name: string };
  readonly subjects?: readonly {
    readonly kind: string;
    readonly name: string;
    readonly namespace?: string;
  }[];
}

/** Questions that are asked at once. */
const AT_ONCE = 16;

/** Asks for every right of every ServiceAccount in `deploy/rbac`; needs the right to create SubjectAccessReviews. */
export async function readRights(kubeConfig: KubeConfig): Promise<Reading<readonly AccountRights[]>> {
  const { AuthorizationV1Api: Api } = await import('../../activities/kubernetes/library.js');
  const api = kubeConfig.makeApiClient(Api);
  return await read(async () => {
    const rights = expectedRights(readManifests());
    return await Promise.all(
      [...rights].map(async ([account, asked]) => ({
        account,
        asked: asked.length,
        missing: await missingOf(api, account, asked),
      })),
    );
  }, 20_000);
}

function readManifests(): readonly Manifest[] {
  const directory = join(projectRoot(), 'deploy', 'rbac');
  return readdirSync(directory)
    .filter((name) => name.endsWith('.yaml'))
    .flatMap((name) => parseAllDocuments(readFileSync(join(directory, name), 'utf8')))
    .map((document) => document.toJS() as Manifest)
    .filter(({ kind }) => kind !== 'Kustomization');
}

/** Rights by account (`namespace/name`), as its bindings give them. */
export function expectedRights(manifests: readonly Manifest[]): ReadonlyMap<string, readonly Right[]> {
  const rights = new Map<string, Right[]>();
  for (const { roleRef, subjects = [], metadata } of manifests) {
    if (!roleRef) continue;
    const role = manifests.find(
      ({ kind, metadata: { name, namespace } }) =>
        kind === roleRef.kind &&
        name === roleRef.name &&
        (kind === 'ClusterRole' || namespace === metadata.namespace),
    );
    for (const subject of subjects.filter(({ kind }) => kind === 'ServiceAccount')) {
      const account = `${subject.namespace}/${subject.name}`;
      const more = (role?.rules ?? []).flatMap((rule) => rightsOf(rule, metadata.namespace));
      rights.set(account, [...(rights.get(account) ?? []), ...more]);
    }
  }
  return rights;
}

function rightsOf(
  { apiGroups, resources, resourceNames, verbs }: Rule,
  namespace: string | undefined,
): readonly Right[] {
  const names: readonly (string | undefined)[] = resourceNames ?? [undefined];
  return apiGroups.flatMap((group) =>
    resources.flatMap((path) =>
      verbs.flatMap((verb) =>
        names.map((name) => {
          const [resource = '', subresource] = path.split('/');
          return {
            verb,
            group,
            resource,
            ...(subresource === undefined ? {} : { subresource }),
            ...(name === undefined ? {} : { name }),
            ...(namespace === undefined ? {} : { namespace }),
          };
        }),
      ),
    ),
  );
}

async function missingOf(
  api: AuthorizationV1Api,
  account: string,
  rights: readonly Right[],
): Promise<readonly string[]> {
  const missing: string[] = [];
  const left = [...rights];
  while (left.length > 0) {
    const batch = left.splice(0, AT_ONCE);
    const answers = await Promise.all(batch.map((right) => may(api, account, right)));
    missing.push(...batch.filter((_right, index) => !answers[index]).map(nameOf));
  }
  return missing;
}

async function may(api: AuthorizationV1Api, account: string, right: Right): Promise<boolean> {
  const user = `system:serviceaccount:${account.replace('/', ':')}`;
  const groups = [
    'system:serviceaccounts',
    `system:serviceaccounts:${account.split('/')[0]}`,
    'system:authenticated',
  ];
  const body = { spec: { user, groups, resourceAttributes: { ...right } } };
  return (await api.createSubjectAccessReview({ body })).status?.allowed ?? false;
}

function nameOf({ verb, resource, subresource, namespace }: Right): string {
  const what = subresource === undefined ? resource : `${resource}/${subresource}`;
  return `${verb} ${what}${namespace === undefined ? '' : ` in ${namespace}`}`;
}
