import type { Examination } from '../../../workflows/examine-nodes.js';
import type { PoolReport } from '../../../activities/types/operators.js';
import { bytes } from '../../render/figures.js';
import { about, type Finding, type Subject } from '../findings.js';
import type { Provisioner } from '../objects.js';
import type { Reading } from '../reading.js';
import { notJudged } from './not-judged.js';

/** Below this part of its size a pool is nearly full. */
const LITTLE_ROOM = 0.1;

/** HostPathProvisioners and what their own status says. */
export function checkProvisioners(provisioners: Reading<readonly Provisioner[]>): readonly Finding[] {
  const none = about('Storage', 'HostPathProvisioner');
  if (provisioners.refused !== undefined) return [notJudged(none, provisioners)];
  if (provisioners.value.length === 0) {
    return [
      none.problem({
        found: 'there is none',
        means:
          'nobody says in which directory volumes are made, and every import fails with StorageClassNotFound',
        todo: 'kubectl apply -f deploy/examples/hostpath-provisioner.yaml (with the path of your nodes)',
      }),
    ];
  }
  return provisioners.value.map(judge);
}

function judge({ metadata: { name, generation }, spec, status }: Provisioner): Finding {
  const subject = about('Storage', `HostPathProvisioner ${name}`);
  const paths = spec?.pathConfig?.path
    ? [spec.pathConfig.path]
    : (spec?.storagePools ?? []).map(({ path }) => path);
  const found = (type: string) => status?.conditions?.find((condition) => condition.type === type);
  const todo = `kubectl describe hostpathprovisioner ${name}`;
  const behind = generation !== undefined && status?.observedGeneration !== generation;
  if (!status?.conditions?.length || behind) {
    return subject.warning({
      found:
        behind && status?.conditions?.length
          ? 'its status is of an older specification'
          : 'it has no conditions',
      means: 'nobody has looked at it as it is now: no directory may be there, and no label',
      todo: `see Workers: the control worker starts prepareStorage for it; then look again: ${todo}`,
    });
  }
  const [degraded, progressing, available] = ['Degraded', 'Progressing', 'Available'].map(found);
  if (degraded?.status === 'True') {
    return subject.problem({
      found: `Degraded, ${degraded.reason ?? ''}: ${degraded.message ?? ''}`,
      means: 'on some node volumes cannot be made, or virtual machines cannot open them',
      todo,
    });
  }
  if (available?.status === 'False' || progressing?.status === 'True') {
    const condition = progressing?.status === 'True' ? progressing : available;
    return subject.warning({
      found: `${condition?.type} ${condition?.status}: ${condition?.message ?? condition?.reason ?? ''}`,
      means: 'the nodes are being prepared; imports wait for a node that is',
      todo: `wait, and look again: ${todo}`,
    });
  }
  return subject.ok(`${paths.join(', ')}${available ? `, Available: ${available.message ?? ''}` : ''}`);
}

/** The pools as the node workers see them. */
export function checkPools(examination: Reading<Examination>): readonly Finding[] {
  if (examination.refused !== undefined) {
    return [
      about('Nodes', 'pools').warning({
        found: 'not judged: the control worker, which asks the nodes, does not answer',
        means: 'directories, partitions and room of the nodes are not known',
        todo: 'see Workers, and run dvflow doctor again',
      }),
    ];
  }
  return examination.value.nodes.flatMap(({ node, report }) =>
    (report?.pools ?? []).map((pool) => judgePool(node, pool)),
  );
}

function judgePool(node: string, pool: PoolReport): Finding {
  const subject = about('Nodes', `${node} ${pool.path}`);
  if (pool.state === 'unusable') {
    return subject.problem({
      found: pool.message ?? 'not usable',
      means: 'no volume can be made on this node',
      todo: `look at it on the node: ls -ldZ ${pool.path}; a path that is wrong: kubectl edit hostpathprovisioner`,
    });
  }
  if (pool.state === 'absent') {
    return subject.problem({
      found: pool.message ?? 'there is no such directory',
      means:
        'volumes cannot be made on this node before it is there; a missing mount would be filled in its place',
      todo: `on node ${node}: mkdir -p ${pool.path} (or mount it); a path that is wrong: kubectl edit hostpathprovisioner`,
    });
  }
  return judgeUsable(node, pool);
}

function judgeUsable(node: string, pool: PoolReport): Finding {
  const subject = about('Nodes', `${node} ${pool.path}`);
  const { roomBytes = 0, totalBytes = 0, promisedBytes = 0, promises = 0 } = pool;
  const promised = `${bytes(promisedBytes)} promised to ${promises} ${promises === 1 ? 'volume' : 'volumes'}`;
  const read = pool.roomBytes !== undefined;
  const found = read
    ? `room for ${bytes(roomBytes)} of ${bytes(totalBytes)}, ${promised}`
    : `${bytes(totalBytes)}, and its books take too long to read for its room to be told: ask again`;
  const unlabelled = judgeLabel(subject, pool);
  if (unlabelled) return unlabelled;
  if (read && totalBytes > 0 && roomBytes < totalBytes * LITTLE_ROOM) {
    return subject.warning({
      found,
      means: 'claims that are larger than the room wait with InsufficientCapacity',
      todo: 'delete volumes that nobody needs, or enlarge the file system',
    });
  }
  if (pool.sharedWithOs) {
    return subject.warning({
      found: `${found}; it shares a file system with the operating system`,
      means:
        'disks that fill it take the room of the kubelet and of the logs: the node may evict pods or stop',
      todo: `give ${pool.path} a file system of its own (docs/operations.md, Pools)`,
    });
  }
  return subject.ok(found);
}

function judgeLabel(subject: Subject, { path, selinux }: PoolReport): Finding | undefined {
  if (!selinux || selinux.labelled || selinux.mode === 'disabled') return undefined;
  const trouble = {
    found: selinux.message,
    means: 'virtual machines get Permission denied when they open a disk there',
    todo: `kubectl describe hostpathprovisioner says what is done about it; by hand on the node: chcon -R -t container_file_t ${path}`,
  };
  return selinux.mode === 'enforcing' ? subject.problem(trouble) : subject.warning(trouble);
}
