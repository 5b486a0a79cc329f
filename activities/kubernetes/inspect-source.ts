/** The probe of a source with the DataVolume's own credentials, before anything is allocated. */
import { Context } from '@temporalio/activity';
import { ApplicationFailure } from '@temporalio/common';
import { failureTypeOf, permanentFailure } from '../failures.js';
import { inspectImage } from '../image/inspect.js';
import type { AddressPolicy, SourceRequest } from '../image/source/types.js';
import type { ControlActivities } from '../interfaces.js';
import type { DataVolumeRef, ImageFacts, Missing } from '../types.js';
import { SOURCE_ATTEMPTS } from './attempts.js';

/** What the probe needs. */
export interface InspectDependencies {
  readonly policy: AddressPolicy;
  /** The request as the DataVolume means it now. */
  readonly readSourceRequest: (dataVolume: DataVolumeRef) => Promise<SourceRequest | Missing>;
}

/** Activities that look at a source. */
export function createInspectActivities({
  policy,
  readSourceRequest,
}: InspectDependencies): Pick<ControlActivities, 'inspectSource'> {
  async function inspectSource({
    dataVolume,
    target,
    contentType,
  }: Parameters<ControlActivities['inspectSource']>[0]): Promise<ImageFacts | Missing> {
    const request = await readSourceRequest(dataVolume);
    if ('missing' in request) return request;
    const { usableBytes, overhead, api, requestBytes } = target;
    try {
      return await inspectImage({
        request,
        policy,
        signal: Context.current().cancellationSignal,
        contentType,
        target: { usableBytes, overhead, api, requestBytes },
        claimName: `${dataVolume.namespace}/${dataVolume.name}`,
      });
    } catch (error) {
      throw givenUp(error);
    }
  }

  return { inspectSource };
}

/** The workflow asks without end, for Kubernetes' sake; a source that stays away is not asked for ever. */
function givenUp(error: unknown): unknown {
  const { attempt } = Context.current().info;
  if (!(error instanceof ApplicationFailure) || failureTypeOf(error) !== 'SourceUnavailable') return error;
  if (attempt < SOURCE_ATTEMPTS) return error;
  return permanentFailure(
    'SourceUnavailable',
    `${error.message} (given up after ${attempt} attempts)`,
    error,
  );
}
