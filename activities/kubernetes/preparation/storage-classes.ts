/** StorageClasses that a HostPathProvisioner asks for by its annotation; hostpath-provisioner's operator makes none. */
import type { V1StorageClass } from '@kubernetes/client-node';
import { permanentFailure, transientFailure } from '../../failures.js';
import type { PreparationControlActivities } from '../../preparation-interfaces.js';
import type { ProvisionerFacts, ProvisionerRef, StorageClassRequest } from '../../types/preparation.js';
import { callForOutcome, callIfFound, callUnlessConflict, listAll, type Kubernetes } from '../client.js';
import { HOSTPATH_PROVISIONERS } from '../names.js';
import {
  isOfPredecessor,
  isOfThisRun,
  isOwn,
  MADE_FOR,
  ownershipMarks,
  runMark,
  type MarkedMeta,
} from './ownership.js';
import { LEGACY_POOL } from './provisioner-spec.js';

/** Parameter of the CSI driver's classes that names the pool. */
const POOL_PARAMETER = 'storagePool';

const [LEGACY_PROVISIONER = '', CSI_PROVISIONER = ''] = HOSTPATH_PROVISIONERS;

/** The activity of StorageClasses. */
export function createStorageClassActivities({
  kubernetes,
}: {
  kubernetes: Kubernetes;
}): Pick<PreparationControlActivities, 'ensureStorageClasses'> {
  const { storage } = kubernetes;

  /** Whether this run has made it, now or before. */
  async function ensure(provisioner: ProvisionerFacts, request: StorageClassRequest): Promise<boolean> {
    const { name } = request;
    const wanted = storageClassBody(provisioner, request);
    const found = await read(name);
    if (!found && (await create(name, wanted)) !== 'conflict') return true;
    const existing = found ?? (await read(name));
    if (!existing) throw goes(name);
    refuseOther(existing, wanted);
    // one of an earlier object of this name goes with what else was made for that, under whoever has taken it meanwhile
    if (isOfPredecessor(existing.metadata ?? {}, provisioner)) throw goes(name);
    return isOfThisRun(existing.metadata ?? {});
  }

  async function read(name: string): Promise<V1StorageClass | undefined> {
    return await callIfFound(`reading StorageClass ${name}`, storage.readStorageClass({ name }));
  }

  async function create(name: string, { metadata, ...rest }: V1StorageClass): Promise<object | 'conflict'> {
    const annotations = { ...metadata?.annotations, ...runMark() };
    const body = { ...rest, metadata: { ...metadata, annotations } };
    return await callUnlessConflict(`creating StorageClass ${name}`, storage.createStorageClass({ body }));
  }

  return {
    async ensureStorageClasses({ provisioner }) {
      const created: string[] = [];
      for (const request of provisioner.storageClasses)
        if (await ensure(provisioner, request)) created.push(request.name);
      const classes = provisioner.storageClasses.map(({ name }) => name);
      await removeClasses(kubernetes, provisioner.uid, ({ name }) => !classes.includes(name));
      return { classes, created };
    },
  };
}

/** As the documents' own (`vm-disks-docs.md` M4): of the legacy provisioner for `pathConfig`, of the CSI driver for a named pool. */
export function storageClassBody(
  provisioner: ProvisionerRef,
  { name, pool }: StorageClassRequest,
): V1StorageClass {
  const legacy = pool === LEGACY_POOL;
  return {
    apiVersion: 'storage.k8s.io/v1',
    kind: 'StorageClass',
    metadata: { name, ...ownershipMarks(provisioner, name) },
    provisioner: legacy ? LEGACY_PROVISIONER : CSI_PROVISIONER,
    reclaimPolicy: 'Delete',
    volumeBindingMode: 'WaitForFirstConsumer',
    ...(legacy ? {} : { parameters: { [POOL_PARAMETER]: pool } }),
  };
}

/** Neither provisioner nor parameters of a class can be changed: one that somebody made is used as it is, or refused. */
function refuseOther(found: V1StorageClass, wanted: V1StorageClass): void {
  const name = found.metadata?.name;
  const poolOf = ({ parameters }: V1StorageClass): string => parameters?.[POOL_PARAMETER] ?? LEGACY_POOL;
  const provisioners = poolOf(wanted) === LEGACY_POOL ? HOSTPATH_PROVISIONERS : [CSI_PROVISIONER];
  if (provisioners.includes(found.provisioner) && poolOf(found) === poolOf(wanted)) return;
  throw permanentFailure(
    'ResourceExists',
    `StorageClass ${name} exists with provisioner ${found.provisioner} and pool ${poolOf(found)}, not with ` +
      `${wanted.provisioner} and pool ${poolOf(wanted)}; these cannot be changed: delete it, or ask for another name`,
  );
}

function goes(name: string): Error {
  return transientFailure(
    'KubernetesUnavailable',
    `StorageClass ${name} is of an earlier HostPathProvisioner and is being removed: made anew when it is gone`,
  );
}

/** Removes StorageClasses made for a HostPathProvisioner; volumes of a class outlive it. */
export async function removeClasses(
  { storage }: Kubernetes,
  madeFor: string,
  doomed: (made: MarkedMeta & { readonly name: string }) => boolean,
): Promise<readonly string[]> {
  const found = await listAll('listing StorageClasses', (page) =>
    storage.listStorageClass({ ...page, labelSelector: `${MADE_FOR}=${madeFor}` }),
  );
  const names: string[] = [];
  for (const { metadata } of found) {
    const { name, uid = '' } = metadata ?? {};
    // somebody's copy is none of ours
    if (!metadata || name === undefined || !isOwn(metadata) || !doomed({ ...metadata, name })) continue;
    names.push(name);
    await callForOutcome(
      `deleting StorageClass ${name}`,
      storage.deleteStorageClass({ name, body: { preconditions: { uid } } }),
    );
  }
  return names.sort();
}
