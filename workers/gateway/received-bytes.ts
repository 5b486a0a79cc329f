import type { Metrics } from '../metrics/index.js';

/** Bytes between two words to the meter, which is a call out of JavaScript. */
const TELL_BYTES = 8 * 1024 * 1024;

/** Counts the bytes of one body. */
export interface ReceivedBytes {
  readonly add: (bytes: number) => void;
  /** Tells what is left. */
  readonly end: () => void;
}

/** Counts towards the metric of what this gateway has handed on. */
export function countReceived(metrics: Pick<Metrics, 'record'> | undefined): ReceivedBytes {
  let untold = 0;
  const tell = (): void => {
    if (untold > 0) metrics?.record('dvflow_upload_received_bytes_total', untold);
    untold = 0;
  };
  return {
    add(bytes) {
      untold += bytes;
      if (untold >= TELL_BYTES) tell();
    },
    end: tell,
  };
}
