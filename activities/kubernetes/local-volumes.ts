/** The objects of block volumes that dvflow makes over a file of a node (`localBlockVolume`). */
import { Context } from '@temporalio/activity';
import type { V1PersistentVolume } from '@kubernetes/client-node';
import { permanentFailure } from '../failures.js';
import type { ControlActivities } from '../interfaces.js';
import type { PoolRef } from '../types.js';
import type {
  LocalBlockVolumeInput,
  LocalVolumePlan,
  LoopVolume,
  RetiredVolume,
} from '../types/local-volumes.js';
import { withoutEnd } from '../without-end.js';
import { callForOutcome, callIfFound, callUnlessConflict, listAll } from './client.js';
import type { Kubernetes } from './client.js';
import { HOSTNAME_LABEL, MARKS, NO_PROVISIONER } from './names.js';
import { nodesOf } from './node-affinity.js';
import { hostnameOf, readVolumes } from './foreign-volumes.js';
import { choosePlacement } from './nodes.js';
import { judgeInput } from './local-volume-input.js';
import { formatQuantity, parseQuantity } from './quantity.js';
import { changedMeanwhile, patchVolume } from './reservation-marks.js';
import { nodesOfPool, readProvisioners, usablePools, type UsablePools } from './pools.js';

/** What the activities of local volumes need. */
interface LocalVolumeDependencies {
  readonly kubernetes: Kubernetes;
  /** Namespace of the claims that nobody creates. */
  readonly transferNamespace: string;
}

/** Activities that make and remove block volumes over files. */
export function createLocalVolumeActivities({
  kubernetes,
  transferNamespace,
}: LocalVolumeDependencies): Pick<
  ControlActivities,
  'planLocalVolume' | 'createLocalVolume' | 'retireLocalVolume'
> {
  const { core, storage } = kubernetes;

  async function planLocalVolume(input: {
    volume: LocalBlockVolumeInput;
    name: string;
  }): Promise<LocalVolumePlan> {
    const { pool: path, ...asked } = judgeInput(input.volume, input.name);
    await requireClass(asked.storageClass);
    const provisioners = await readProvisioners(kubernetes);
    const pool = choosePool(path, usablePools(provisioners));
    const [nodes, volumes] = await Promise.all([
      listAll('listing nodes', (page) => core.listNode(page)),
      readVolumes(kubernetes),
    ]);
    const placed = nodesOfPool(pool, provisioners, nodes);
    const asking = { nodes, volumes, topologies: [], pool, placed, provisionOnNode: asked.node };
    const placement = choosePlacement(asking);
    const [candidate] = placement.candidates;
    if (!candidate)
      throw permanentFailure('NodeUnavailable', placement.reason ?? `node ${asked.node} cannot be used`);
    const { hostname, foreignBytes } = candidate;
    const { overcommit } = pool;
    const plan = {
      ...asked,
      hostname,
      pool: pool.path,
      foreignBytes,
      ...(overcommit === undefined ? {} : { overcommit }),
    };
    const existing = volumes.find(({ metadata }) => metadata?.name === plan.name);
    if (existing) refuseOther(existing, plan);
    return { ...plan, exists: existing !== undefined };
  }

  /** A class that somebody provisions would make volumes of its own for the same claims. */
  async function requireClass(name: string): Promise<void> {
    const found = await callIfFound(`reading StorageClass ${name}`, storage.readStorageClass({ name }));
    if (!found)
      throw permanentFailure(
        'StorageClassNotFound',
        `StorageClass "${name}" does not exist: create it (deploy/examples/storage-class-local.yaml), or name another one`,
      );
    if (found.provisioner !== NO_PROVISIONER)
      throw permanentFailure(
        'InvalidLocalVolume',
        `StorageClass "${name}" belongs to provisioner ${found.provisioner}: a local volume needs a class of ${NO_PROVISIONER}`,
      );
  }

  async function createLocalVolume({
    plan,
    device,
  }: {
    plan: LocalVolumePlan;
    device: LoopVolume;
  }): Promise<void> {
    const { name } = plan;
    const body = volumeBody(plan, device);
    const created = await callUnlessConflict(
      `creating volume ${name}`,
      core.createPersistentVolume({ body }),
    );
    if (created !== 'conflict') return;
    const found = await callIfFound(`reading volume ${name}`, core.readPersistentVolume({ name }));
    if (!found) throw changedMeanwhile(name);
    refuseOther(found, plan);
  }

  async function retireLocalVolume(
    input: Parameters<ControlActivities['retireLocalVolume']>[0],
  ): Promise<{ volume?: RetiredVolume }> {
    const { name, node, madeBy } = input;
    const found = await callIfFound(`reading volume ${name}`, core.readPersistentVolume({ name }));
    if (!found) return node ? { volume: { name, node } } : {};
    const { uid = '', resourceVersion, labels, annotations } = found.metadata ?? {};
    if (madeBy !== undefined && annotations?.[MARKS.madeBy] !== madeBy) return {};
    if (labels?.[MARKS.localVolume] === undefined)
      throw permanentFailure(
        'ResourceExists',
        `PersistentVolume ${name} was not made by dvflow: it is not removed`,
      );
    const retired = {
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      namespace: transferNamespace,
      name: `retired-${uid}`,
    };
    refuseClaimed(found, retired.name);
    const nodes = await listAll('listing nodes', (page) => core.listNode(page));
    const on = nodesOf(found, nodes)[0]?.metadata?.name;
    if (!on)
      throw permanentFailure(
        'NodeUnavailable',
        `node ${hostnameOf(found)} of PersistentVolume ${name} is not in the cluster: remove the object by kubectl`,
      );
    const outcome = await patchVolume(kubernetes, name, `retiring volume ${name}`, [
      { op: 'test', path: '/metadata/resourceVersion', value: resourceVersion },
      { op: 'add', path: '/spec/claimRef', value: retired },
    ]);
    if (outcome !== 'patched') throw changedMeanwhile(name);
    if (madeBy !== undefined) {
      const body = { preconditions: { uid } };
      await callForOutcome(`deleting volume ${name}`, core.deletePersistentVolume({ name, body }));
    }
    const pool = annotations?.[MARKS.pool];
    return { volume: { name, uid, node: on, ...(pool ? { pool } : {}) } };
  }

  return { planLocalVolume, createLocalVolume, retireLocalVolume };
}

/** Released, it is nobody's; with any other claim it is somebody's, or will be. */
function refuseClaimed({ metadata, spec, status }: V1PersistentVolume, retired: string): void {
  const { claimRef } = spec ?? {};
  if (!claimRef || claimRef.name === retired || status?.phase === 'Released') return;
  const claim = `${claimRef.namespace}/${claimRef.name}`;
  throw permanentFailure(
    'ResourceExists',
    status?.phase === 'Bound'
      ? `PersistentVolume ${metadata?.name} is Bound to claim ${claim}: delete the claim first`
      : `PersistentVolume ${metadata?.name} is reserved for ${metadata?.annotations?.[MARKS.dataVolume] ?? claim}: it is not removed`,
  );
}

/** The pool of this path, or the first one. @throws {@link FailureType} `InvalidLocalVolume` where there is none */
function choosePool(path: string | undefined, { pools, refusals }: UsablePools): PoolRef {
  const pool = path === undefined ? pools[0] : pools.find((found) => found.path === withoutEnd(path, '/'));
  if (pool) return pool;
  const offer = pools.map((found) => found.path).join(', ') || 'there is no HostPathProvisioner';
  const none = 'no HostPathProvisioner says in which directory of the node the file is made: create one';
  throw permanentFailure(
    'InvalidLocalVolume',
    path === undefined
      ? [none, ...refusals].join('; ')
      : `pool ${path} is of no HostPathProvisioner (${[offer, ...refusals].join('; ')})`,
  );
}

/** @throws {@link FailureType} `ResourceExists` for a volume that another argument would have made */
function refuseOther(
  found: V1PersistentVolume,
  plan: LocalVolumePlan | Omit<LocalVolumePlan, 'exists'>,
): void {
  const { metadata, spec } = found;
  const { name, bytes, hostname, pool, storageClass } = plan;
  const same =
    metadata?.labels?.[MARKS.localVolume] === 'block' &&
    metadata.annotations?.[MARKS.pool] === pool &&
    parseQuantity(spec?.capacity?.storage ?? '') === BigInt(bytes) &&
    spec?.storageClassName === storageClass &&
    hostnameOf(found) === hostname;
  if (same && !metadata.deletionTimestamp) return;
  throw permanentFailure(
    'ResourceExists',
    `PersistentVolume ${name} exists and is another one (${spec?.capacity?.storage} of StorageClass "${spec?.storageClassName}"): ` +
      'choose another name',
  );
}

function volumeBody(plan: LocalVolumePlan, device: LoopVolume): V1PersistentVolume {
  const { name, labels, pool, storageClass, hostname } = plan;
  return {
    metadata: {
      name,
      labels: { ...labels, [MARKS.localVolume]: 'block' },
      annotations: {
        [MARKS.pool]: pool,
        [MARKS.madeBy]: Context.current().info.workflowExecution?.runId ?? '',
      },
    },
    spec: {
      accessModes: ['ReadWriteOnce'],
      volumeMode: 'Block',
      // what the device has, not what was asked for: a claim gets what it is promised
      capacity: { storage: formatQuantity(device.bytes) },
      storageClassName: storageClass,
      // nothing in Kubernetes can delete a local volume
      persistentVolumeReclaimPolicy: 'Retain',
      local: { path: device.path },
      nodeAffinity: {
        required: {
          nodeSelectorTerms: [
            { matchExpressions: [{ key: HOSTNAME_LABEL, operator: 'In', values: [hostname] }] },
          ],
        },
      },
    },
  };
}
