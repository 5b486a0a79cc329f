import type { KubeConfig } from '@kubernetes/client-node';
import { Worker, type Logger } from '@temporalio/worker';
import { createBlankActivities } from '../activities/image/blank-disk.js';
import { createServeActivities } from '../activities/image/clone/serve.js';
import { createTransferActivities } from '../activities/image/transfer.js';
import { UploadDesk } from '../activities/image/upload/desk.js';
import { memoryIn } from '../activities/node/pool-memory.js';
import { createLocateActivities } from '../activities/image/upload/locate.js';
import { createReceiveActivities } from '../activities/image/upload/receive.js';
import { createCredentialReader } from '../activities/kubernetes/credentials.js';
import type { NodeActivities } from '../activities/interfaces.js';
import { createNodeActivities } from '../activities/node/index.js';
import type { UploadPort } from '../activities/types/data-port.js';
import { nodeQueue, servingQueue, transferQueue } from '../workflows/task-queues.js';
import { BEAT_THROTTLE_MS, beatWhileWorking } from './beats.js';
import type { WorkerConfig } from './config.js';
import type { TemporalAccess } from './connection.js';
import { activityMetrics } from './metrics/activities.js';
import type { Metrics } from './metrics/index.js';
import { poolMetrics } from './metrics/pools.js';
import { byteMetrics, countZeros, transferMetrics, uploadMetrics } from './metrics/transfers.js';
import { transferUser } from './privileges.js';
import { sourcePolicy } from './source-policy.js';
import { ownVersion, workerIdentity } from './version.js';

/**
 * Short steps are cheap and must not wait behind one another: a look at a pool has three seconds to begin, while hundreds of
 * reservations stand before the pool's lock, where they cost nothing.
 */
const NODE_SLOTS = 500;

/**
 * Volumes served at once. They wait for readers on other nodes, which may wait for transfer slots; the short steps of this node must not
 * wait for them. What is read shares a bounded memory.
 */
const SERVING_SLOTS = 1000;

/** Short steps that beat for themselves, with what they have done. */
const REPORTING = [
  'createBlankDisk',
  'emptyReservedVolume',
  'labelBackingDirectory',
] as const satisfies readonly (keyof NodeActivities)[];

/** What the workers of a node are made with. */
export interface NodeWorkerParts {
  readonly kubeConfig: KubeConfig;
  readonly metrics: Metrics;
  readonly logger: Logger;
  /** Serves what transfers receive and hand out. */
  readonly dataPort: UploadPort;
}

/** The workers of one node: short work, byte moving, and volumes that are served, each with their own slots. */
export async function createNodeWorkers(
  config: WorkerConfig,
  { connection, namespace, address }: TemporalAccess,
  { kubeConfig, metrics, logger, dataPort }: NodeWorkerParts,
): Promise<readonly Worker[]> {
  const user = transferUser();
  const { nodeName: node, stateDirectory, deviceDirectory } = config;
  const memory = memoryIn(stateDirectory);
  const policy = await sourcePolicy(config.policy, { kubeConfig, temporalAddress: address });
  // both queues of this worker speak of the same sessions
  const desk = new UploadDesk();
  const identity = workerIdentity();
  const options = {
    connection,
    namespace,
    identity,
    shutdownGraceTime: '5s',
    shutdownForceTime: '10s',
  } as const;
  return await Promise.all([
    Worker.create({
      ...options,
      taskQueue: nodeQueue(config.nodeName),
      activities: {
        ...createNodeActivities({
          node,
          transferUser: user,
          version: ownVersion(),
          stateDirectory,
          deviceDirectory,
          selinuxfs: config.selinuxfs,
          dataPort,
        }),
        ...createLocateActivities({ dataPort, desk, stateDirectory }),
      },
      maxConcurrentActivityTaskExecutions: NODE_SLOTS,
      interceptors: {
        activity: [
          activityMetrics(
            metrics,
            'node',
            poolMetrics(metrics, { node, selinuxfs: config.selinuxfs, memory, logger }),
          ),
          beatWhileWorking(REPORTING),
        ],
      },
      maxHeartbeatThrottleInterval: BEAT_THROTTLE_MS,
    }),
    Worker.create({
      ...options,
      taskQueue: servingQueue(config.nodeName),
      activities: createServeActivities(node, dataPort, memory),
      maxConcurrentActivityTaskExecutions: SERVING_SLOTS,
      interceptors: { activity: [activityMetrics(metrics, 'serve')] },
    }),
    Worker.create({
      ...options,
      taskQueue: transferQueue(config.nodeName),
      activities: {
        ...createTransferActivities({
          readRequest: createCredentialReader(kubeConfig, config.transferNamespace),
          policy,
          ambientCredentials: config.ambientCredentials,
          transferUser: user,
          observe: byteMetrics(metrics),
          stateDirectory,
          tlsDirectory: config.tlsDirectory,
        }),
        ...createBlankActivities({ transferUser: user, stateDirectory, observe: countZeros(metrics) }),
        ...createReceiveActivities({
          node,
          dataPort,
          desk,
          transferUser: user,
          stateDirectory,
          observe: uploadMetrics(metrics),
        }),
      },
      maxConcurrentActivityTaskExecutions: config.transferSlots,
      interceptors: {
        activity: [activityMetrics(metrics, 'transfer', transferMetrics(metrics, config.transferSlots))],
      },
      // The control role shows progress once a second: details must not be older.
      maxHeartbeatThrottleInterval: '500ms',
      defaultHeartbeatThrottleInterval: '500ms',
    }),
  ]);
}
