/** Reads and writes of CDI's cluster-scoped objects. A write is of exactly the version that was read. */
import { call, callForOutcome, callIfFound } from './client.js';
import type { Kubernetes } from './client.js';
import { CDI_GROUP, CDI_VERSION } from './names.js';
import type { ObjectMeta } from './objects.js';

/** Resources of CDI that belong to no namespace. */
export type ClusterResource = 'cdis' | 'cdiconfigs' | 'storageprofiles';

const KINDS = { cdis: 'CDI', cdiconfigs: 'CDIConfig', storageprofiles: 'StorageProfile' } as const;

/** Labels that CDI puts on what it makes, under CDI's names; a value that somebody else wrote stays. */
export const RECOMMENDED_LABELS: Readonly<Record<string, string>> = {
  app: 'containerized-data-importer',
  'cdi.kubevirt.io': '',
  'app.kubernetes.io/component': 'storage',
  'app.kubernetes.io/managed-by': 'dvflow',
};

interface Stored {
  readonly metadata?: Partial<ObjectMeta>;
}

/** Path of the resource, or of one object of it. */
function clusterPath<T extends ClusterResource>(plural: T) {
  return { group: CDI_GROUP, version: CDI_VERSION, plural };
}

/** The object; absent where nobody made it. */
export async function readClusterObject<T extends Stored>(
  { custom }: Kubernetes,
  plural: ClusterResource,
  name: string,
): Promise<T | undefined> {
  const found: unknown = await callIfFound(
    `reading ${KINDS[plural]} ${name}`,
    custom.getClusterCustomObject({ ...clusterPath(plural), name }) as Promise<object>,
  );
  return found as T | undefined;
}

/** Creates the object; `undefined` where somebody else has done so meanwhile. */
export async function createClusterObject<T extends Stored>(
  { custom }: Kubernetes,
  plural: ClusterResource,
  object: T,
): Promise<T | undefined> {
  const body = { apiVersion: `${CDI_GROUP}/${CDI_VERSION}`, kind: KINDS[plural], ...object };
  const created: unknown = await callForOutcome(
    `creating ${KINDS[plural]} ${object.metadata?.name}`,
    custom.createClusterCustomObject({ ...clusterPath(plural), body }) as Promise<object>,
    [409],
  );
  return typeof created === 'string' ? undefined : (created as T);
}

/** Writes the object, or its status alone; `undefined` where it has changed or gone since it was read. */
export async function replaceClusterObject<T extends Stored>(
  { custom }: Kubernetes,
  plural: ClusterResource,
  object: T,
  part: 'object' | 'status' = 'object',
): Promise<T | undefined> {
  const name = object.metadata?.name ?? '';
  const request = { ...clusterPath(plural), name, body: object };
  const written: unknown = await callForOutcome(
    `writing ${KINDS[plural]} ${name}`,
    (part === 'status'
      ? custom.replaceClusterCustomObjectStatus(request)
      : custom.replaceClusterCustomObject(request)) as Promise<object>,
  );
  return typeof written === 'string' ? undefined : (written as T);
}

/** Deletes exactly the object that was read; one that has gone or was changed since is left to who looks again. */
export async function deleteClusterObject(
  { custom }: Kubernetes,
  plural: ClusterResource,
  { metadata }: Stored,
): Promise<void> {
  const { name = '', uid, resourceVersion } = metadata ?? {};
  await callForOutcome(
    `deleting ${KINDS[plural]} ${name}`,
    custom.deleteClusterCustomObject({
      ...clusterPath(plural),
      name,
      body: { preconditions: { ...(uid ? { uid } : {}), ...(resourceVersion ? { resourceVersion } : {}) } },
    }) as Promise<object>,
  );
}

/** Every object of the resource; there are a few. */
export async function listClusterObjects<T>(
  { custom }: Kubernetes,
  plural: ClusterResource,
): Promise<readonly T[]> {
  const answer: unknown = await call(
    `listing ${plural}`,
    custom.listClusterCustomObject(clusterPath(plural)) as Promise<object>,
  );
  return (answer as { items: T[] }).items;
}
