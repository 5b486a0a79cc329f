/** Kubernetes events with a stable name for each object and reason: what is said again counts up, with its newest figures. */
import { createHash } from 'node:crypto';
import { Context } from '@temporalio/activity';
import type { CoreV1Event, V1ObjectReference } from '@kubernetes/client-node';
import type { DataVolumeEvent } from '../types.js';
import { callForOutcome, MERGE_PATCH } from './client.js';
import type { Kubernetes } from './client.js';
import { isNamespaceGoing } from './errors.js';
import { MARK_PREFIX } from './names.js';

/** Kubernetes' limit for an event's message, in characters. */
const MAX_MESSAGE = 1024;
/** Room that an event's name leaves for the object's: names end at 253, the hash takes 17. */
const MAX_OBJECT_NAME = 236;
/** Who said it, as `kubectl describe` shows. */
const COMPONENT = 'dvflow';
/** Annotation: the activity that wrote the event last, so that its repetition does not count. */
const WRITTEN_BY = `${MARK_PREFIX}written-by`;
/** Namespace of events about objects that have none. */
const CLUSTER_NAMESPACE = 'default';

/** Says `event` about an object. An activity that says the same twice says it once; an object whose namespace is going or gone is no error. */
export async function recordEvent(
  { core }: Kubernetes,
  about: V1ObjectReference,
  event: DataVolumeEvent,
): Promise<void> {
  const namespace = about.namespace ?? CLUSTER_NAMESPACE;
  const body = eventBody(about, event, namespace);
  const doing = `recording event ${event.reason} on ${about.kind} ${about.name}`;
  const creation = core.createNamespacedEvent({ namespace, body }).catch((error: unknown) => {
    if (!isNamespaceGoing(error)) throw error;
    return body;
  });
  const created = await callForOutcome(doing, creation);
  if (created !== 'conflict') return;
  const { name = '', annotations } = body.metadata;
  const patch = (change: object): Promise<CoreV1Event> =>
    core.patchNamespacedEvent({ namespace, name, body: change }, MERGE_PATCH);
  // a patch that changes nothing answers with the object: the right to read everybody's events is not needed
  const found = await callForOutcome(doing, patch({}));
  if (typeof found === 'string' || isRepetition(found, body)) return;
  await callForOutcome(doing, patch({ ...countUp(found), message: body.message, metadata: { annotations } }));
}

/** An attempt that follows another one repeats its words; the failure of each attempt has words of its own. */
function isRepetition(found: CoreV1Event, { metadata, message }: CoreV1Event): boolean {
  return (
    found.message === message &&
    found.metadata.annotations?.[WRITTEN_BY] === metadata.annotations?.[WRITTEN_BY]
  );
}

function countUp({ count = 1 }: CoreV1Event): object {
  return { count: count + 1, lastTimestamp: now() };
}

function eventBody(about: V1ObjectReference, event: DataVolumeEvent, namespace: string): CoreV1Event {
  const message = event.message.slice(0, MAX_MESSAGE);
  const identity = createHash('sha256').update(JSON.stringify([about.uid, event.type, event.reason]));
  const { workflowExecution, activityId } = Context.current().info;
  const at = new Date(now());
  return {
    metadata: {
      name: `${about.name?.slice(0, MAX_OBJECT_NAME)}.${identity.digest('hex').slice(0, 16)}`,
      namespace,
      annotations: { [WRITTEN_BY]: `${workflowExecution?.runId}/${activityId}` },
    },
    involvedObject: about,
    type: event.type,
    reason: event.reason,
    message,
    source: { component: COMPONENT },
    reportingComponent: COMPONENT,
    reportingInstance: '',
    firstTimestamp: at,
    lastTimestamp: at,
    count: 1,
  };
}

/** Kubernetes keeps whole seconds. */
function now(): string {
  return `${new Date().toISOString().slice(0, 19)}Z`;
}
