/** Which class scratch space comes from, and how large it is: CDI's rules (`cdi.md` §5, statements 125-131). */
import type { V1StorageClass } from '@kubernetes/client-node';
import { permanentFailure } from '../failures.js';
import type { ImageFacts, PoolRef, TargetPlan } from '../types.js';
import type { ScratchChoice, ScratchPlan } from '../types/scratch.js';
import { HOSTPATH_PROVISIONERS, NO_PROVISIONER } from './names.js';
import type { CdiConfig } from './objects.js';
import { alignedUp, filesystemOverhead, requiredSpace, usableSpace } from './overhead.js';
import { poolOf } from './pools.js';
import { defaultStorageClass } from './storage-classes.js';

/** The tables of an image file take less than a 32nd of its data: of a qcow2 with its smallest clusters, of 512 bytes, a 50th. */
const TABLES = 32;
const SETTING = 'spec.scratchSpaceStorageClass of CDIConfig config';

/** Everything that decides about scratch space, read from the cluster. */
export interface ScratchFacts {
  readonly config: CdiConfig | undefined;
  /** Every class of the cluster. */
  readonly classes: readonly V1StorageClass[];
  readonly pools: readonly PoolRef[];
  readonly target: Pick<TargetPlan, 'storageClass' | 'volumeMode' | 'requestBytes' | 'overhead'>;
  readonly image: Pick<ImageFacts, 'containers' | 'validators'>;
  /** Why the image needs it. */
  readonly reason: string;
}

/**
 * The scratch space that these facts lead to. It is always a file system, whatever the target is.
 * @throws {@link FailureType} `ScratchSpaceRequired` where no class can serve it, naming the class and the setting to change
 */
export function planScratch(facts: ScratchFacts): ScratchPlan {
  const { config, pools, reason } = facts;
  const chosen = chooseClass(facts);
  const { name, storageClass, chosenBy } = chosen;
  const pool = storageClass && poolOf(storageClass, pools);
  const why = whyUnfit(storageClass, pool, facts.target);
  if (why !== undefined || !storageClass || !pool) throw refused(facts, chosen, why);
  const { provisioner } = storageClass;
  const sizes = sizesOf(facts, filesystemOverhead(config, name));
  return { storageClass: name, provisioner, chosenBy, pool, ...sizes, reason };
}

interface Chosen {
  readonly name: string;
  readonly storageClass: V1StorageClass | undefined;
  readonly chosenBy: ScratchChoice;
}

/** The configured class if there is one of that name, else the cluster's default, else the target's. */
function chooseClass({ config, classes, target }: ScratchFacts): Chosen {
  const find = (name: string): V1StorageClass | undefined =>
    classes.find(({ metadata }) => metadata?.name === name);
  const told = config?.spec?.scratchSpaceStorageClass;
  const configured = told ? find(told) : undefined;
  if (told && configured)
    return { name: told, storageClass: configured, chosenBy: 'scratchSpaceStorageClass' };
  const storageClass = defaultStorageClass(classes, 'pvc');
  const name = storageClass?.metadata?.name;
  if (name !== undefined) return { name, storageClass, chosenBy: 'default StorageClass' };
  const own = target.storageClass;
  return { name: own, storageClass: find(own), chosenBy: "target's StorageClass" };
}

/** Why dvflow cannot make a file system of this class on the target's node by itself; `undefined` where it can. */
function whyUnfit(
  storageClass: V1StorageClass | undefined,
  pool: PoolRef | undefined,
  { volumeMode }: ScratchFacts['target'],
): string | undefined {
  if (!storageClass) return 'does not exist';
  const { provisioner } = storageClass;
  if (HOSTPATH_PROVISIONERS.includes(provisioner))
    return pool ? undefined : 'has no HostPathProvisioner that says in which directory volumes are made';
  const block =
    volumeMode === 'Block' ? 'the target is a Block volume, scratch space is a file system, and ' : '';
  if (provisioner === NO_PROVISIONER)
    return `provisions nothing by itself (${block}its volumes are made by hand)`;
  return `belongs to provisioner ${provisioner} (${block}only a pod can mount its volumes)`;
}

function refused(
  { config, reason }: ScratchFacts,
  { name, chosenBy }: Chosen,
  why: string | undefined,
): Error {
  const told = config?.spec?.scratchSpaceStorageClass;
  const dangling =
    told && chosenBy !== 'scratchSpaceStorageClass' ? ` (it names "${told}", which does not exist)` : '';
  const subject =
    name === ''
      ? "the target's volume has no StorageClass, and none"
      : `StorageClass "${name}" (the ${chosenBy})`;
  return permanentFailure(
    'ScratchSpaceRequired',
    `image needs scratch space: ${reason}; ${subject} ${why}: set ${SETTING} to a class of ${HOSTPATH_PROVISIONERS[0]}${dangling}`,
  );
}

/** CDI's size; more only where the file that has to be kept is known to be larger, as one with internal snapshots may be. */
function sizesOf(
  { target, image }: ScratchFacts,
  overhead: number,
): Pick<ScratchPlan, 'requestBytes' | 'promisedBytes'> {
  const { volumeMode } = target;
  const usable = usableSpace(volumeMode === 'Block' ? 0 : target.overhead, target.requestBytes);
  const file = image.containers.length === 0 ? (image.validators.length ?? 0) : 0;
  const requestBytes = alignedUp(requiredSpace(overhead, Math.max(usable, file)));
  return { requestBytes, promisedBytes: requestBytes + alignedUp(usable / TABLES) };
}
