import { fileURLToPath } from 'node:url';
import type { KubeConfig } from '@kubernetes/client-node';
import { Worker } from '@temporalio/worker';
import { createKubernetesActivities } from '../../activities/kubernetes/index.js';
import { CONTROL_QUEUE } from '../../workflows/task-queues.js';
import type { WorkerConfig } from '../config.js';
import type { TemporalAccess } from '../connection.js';
import { beatWhileWorking } from '../beats.js';
import { activityMetrics } from '../metrics/activities.js';
import { metricSinks, type Metrics } from '../metrics/index.js';
import { sourcePolicy } from '../source-policy.js';
import { workerIdentity } from '../version.js';

/**
 * Activities at once: a few calls of the API server each, and a hundred keep it busy without a queue in front of it. Those that wait
 * for a claim to be Bound keep their slot and ask every 2 s at last: fifty reads a second, all together.
 */
const CONTROL_SLOTS = 100;

/** Beat for themselves, with what they count. */
const REPORTING = ['inspectSource'];

/** The worker of every workflow and of the activities that talk to Kubernetes or probe a source. */
export async function createControlWorker(
  config: WorkerConfig,
  access: TemporalAccess,
  kubeConfig: KubeConfig,
  metrics: Metrics,
): Promise<Worker> {
  const { connection, client, namespace, address } = access;
  return await Worker.create({
    connection,
    namespace,
    identity: workerIdentity(),
    taskQueue: CONTROL_QUEUE,
    workflowBundle: { codePath: fileURLToPath(new URL('../../workflow-bundle.js', import.meta.url)) },
    activities: createKubernetesActivities({
      kubeConfig,
      temporal: client,
      temporalNamespace: namespace,
      namespaces: { transfers: config.transferNamespace },
      policy: await sourcePolicy(config.policy, { kubeConfig, temporalAddress: address }),
      ambientCredentials: config.ambientCredentials,
      sweepGraceMs: config.sweepGraceMs,
    }),
    maxConcurrentActivityTaskExecutions: CONTROL_SLOTS,
    sinks: metricSinks(metrics),
    interceptors: { activity: [activityMetrics(metrics, 'control'), beatWhileWorking(REPORTING)] },
    // An activity hears of a cancel with the answer to a heartbeat: it is not to wait for most of its timeout.
    maxHeartbeatThrottleInterval: '1s',
    shutdownGraceTime: '10s',
  });
}
