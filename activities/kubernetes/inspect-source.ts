/** The probe of a source with the DataVolume's own credentials, before anything is allocated. */
import { Context } from '@temporalio/activity';
import { ApplicationFailure } from '@temporalio/common';
import { failureTypeOf, permanentFailure } from '../failures.js';
import { inspectImage, type InspectPatience } from '../image/inspect.js';
import type { AddressPolicy, SourceRequest } from '../image/source/types.js';
import type { ControlActivities } from '../interfaces.js';
import type { DataVolumeRef, ImageFacts, Missing } from '../types.js';
import { SOURCE_ATTEMPTS } from './attempts.js';

/** The timeout is 10 s. */
const HEARTBEAT_MS = 3_000;

/** What the probe needs. */
export interface InspectDependencies {
  readonly policy: AddressPolicy;
  /** The request as the DataVolume means it now. */
  readonly readSourceRequest: (dataVolume: DataVolumeRef) => Promise<SourceRequest | Missing>;
  /** How long one inspection waits for the source. */
  readonly patience?: InspectPatience | undefined;
}

/** Heartbeat details of `inspectSource`. */
interface InspectBeat {
  /** Inspections of this source that were begun, one attempt each. */
  readonly inspections: number;
}

/** Activities that look at a source. */
export function createInspectActivities({
  policy,
  readSourceRequest,
  patience,
}: InspectDependencies): Pick<ControlActivities, 'inspectSource'> {
  async function inspectSource({
    dataVolume,
    target,
    contentType,
  }: Parameters<ControlActivities['inspectSource']>[0]): Promise<ImageFacts | Missing> {
    using count = countInspections();
    const request = await readSourceRequest(dataVolume);
    if ('missing' in request) return request;
    const inspection = count.begin();
    if (inspection > SOURCE_ATTEMPTS) throw lost(dataVolume);
    const { usableBytes, overhead, api, requestBytes } = target;
    try {
      return await inspectImage({
        request,
        policy,
        signal: Context.current().cancellationSignal,
        contentType,
        target: { usableBytes, overhead, api, requestBytes },
        claimName: `${dataVolume.namespace}/${dataVolume.name}`,
        patience,
      });
    } catch (error) {
      throw givenUp(error, inspection);
    }
  }

  return { inspectSource };
}

/**
 * Counts by heartbeats, so that an attempt counts which was lost with its worker, and one that never came to ask the source, because
 * Kubernetes was away, does not.
 */
function countInspections(): Disposable & { begin(): number } {
  const context = Context.current();
  const before = context.info.heartbeatDetails as Partial<InspectBeat> | undefined;
  let beat: InspectBeat = { inspections: before?.inspections ?? 0 };
  const timer = setInterval(() => context.heartbeat(beat), HEARTBEAT_MS);
  return {
    begin() {
      beat = { inspections: beat.inspections + 1 };
      context.heartbeat(beat);
      return beat.inspections;
    },
    [Symbol.dispose]: () => clearInterval(timer),
  };
}

/** The workflow asks without end, for Kubernetes' sake; a source that stays away is not asked for ever. */
function givenUp(error: unknown, inspection: number): unknown {
  const type = failureTypeOf(error);
  if (!(error instanceof ApplicationFailure) || !type || error.nonRetryable) return error;
  if (inspection < SOURCE_ATTEMPTS) return error;
  return permanentFailure(type, `${error.message} (given up after ${inspection} attempts)`, error);
}

/** The last inspection could not even say what happened to it: the next one would end no better, and may take its worker along. */
function lost({ namespace, name }: DataVolumeRef): ApplicationFailure {
  return permanentFailure(
    'SourceUnavailable',
    `the source of ${namespace}/${name} was inspected ${SOURCE_ATTEMPTS} times, the last time without an answer: its worker was lost, or its log says more (given up)`,
  );
}
