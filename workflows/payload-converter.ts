/** What payloads are to the workflows: bundled beside `index.ts` by `workers/workflow-code.ts`. */
import { DefaultPayloadConverter, type Payload, type PayloadConverter } from '@temporalio/common';
import { Unreadable } from './unreadable.js';

/** As other clients and the Temporal UI name the JSON of a message of protobuf. */
const PROTOBUF_JSON = 'json/protobuf';

class TolerantPayloadConverter extends DefaultPayloadConverter {
  override fromPayload<T>(payload: Payload): T {
    const encoding = encodingOf(payload);
    try {
      if (encoding === PROTOBUF_JSON) return JSON.parse(textOf(payload.data)) as T;
      return super.fromPayload(payload);
    } catch {
      return new Unreadable(encoding) as T;
    }
  }
}

/**
 * Writes as Temporal's own converter does, and reads whatever anybody sends: the UI and the CLI offer every encoding for an argument, and
 * one that cannot be decoded fails the workflow's task again and again, which neither a cancel nor the end of the DataVolume gets past.
 * What is no JSON becomes an {@link Unreadable}, which the workflows refuse or pass over as any wrong argument.
 */
export const payloadConverter: PayloadConverter = new TolerantPayloadConverter();

function encodingOf({ metadata }: Payload): string {
  return textOf(metadata?.['encoding']);
}

/** The sandbox has Temporal's decoder. */
function textOf(bytes: Uint8Array | null | undefined): string {
  return bytes ? new TextDecoder().decode(bytes) : '';
}
