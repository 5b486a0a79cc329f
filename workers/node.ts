import type { KubeConfig } from '@kubernetes/client-node';
import { Worker } from '@temporalio/worker';
import { createTransferActivities } from '../activities/image/transfer.js';
import { createCredentialReader } from '../activities/kubernetes/credentials.js';
import { createNodeActivities } from '../activities/node/index.js';
import { nodeQueue, transferQueue } from '../workflows/task-queues.js';
import type { WorkerConfig } from './config.js';
import type { TemporalAccess } from './connection.js';
import { transferUser } from './privileges.js';
import { sourcePolicy } from './source-policy.js';

/** Short steps are cheap and must not wait behind one another. */
const NODE_SLOTS = 20;

/** The workers of one node: short work, and byte moving with its own slots. */
export async function createNodeWorkers(
  config: WorkerConfig,
  { connection, namespace, address }: TemporalAccess,
  kubeConfig: KubeConfig,
): Promise<readonly Worker[]> {
  const user = transferUser();
  const policy = await sourcePolicy(config.policy, { kubeConfig, temporalAddress: address });
  const options = { connection, namespace, shutdownGraceTime: '5s', shutdownForceTime: '10s' } as const;
  return await Promise.all([
    Worker.create({
      ...options,
      taskQueue: nodeQueue(config.nodeName),
      activities: createNodeActivities({ node: config.nodeName, transferUser: user }),
      maxConcurrentActivityTaskExecutions: NODE_SLOTS,
    }),
    Worker.create({
      ...options,
      taskQueue: transferQueue(config.nodeName),
      activities: createTransferActivities({
        readRequest: createCredentialReader(kubeConfig, config.transferNamespace),
        policy,
        ambientCredentials: config.ambientCredentials,
        transferUser: user,
      }),
      maxConcurrentActivityTaskExecutions: config.transferSlots,
      // The control role shows progress once a second: details must not be older.
      maxHeartbeatThrottleInterval: '500ms',
      defaultHeartbeatThrottleInterval: '500ms',
    }),
  ]);
}
