/** How many bodies a gateway moves at once: its memory is bounded by them. */
import { UploadError } from './upload-failures.js';

/** Slots of one gateway. */
export interface UploadSlots {
  /** Bodies on their way. */
  readonly taken: number;
  /** Takes a slot; the returned function gives it back, once. @throws UploadError 503 when all are taken */
  take(): () => void;
}

/** So many slots; `changed` is told how many are taken. */
export function createUploadSlots(
  slots: number,
  changed: (taken: number) => void = () => undefined,
): UploadSlots {
  let taken = 0;
  const count = (change: 1 | -1): void => {
    taken += change;
    changed(taken);
  };
  return {
    get taken() {
      return taken;
    },
    take() {
      if (taken >= slots)
        throw new UploadError(503, `${slots} uploads are under way through this gateway: try again later`);
      count(1);
      let given = false;
      return () => {
        if (given) return;
        given = true;
        count(-1);
      };
    },
  };
}
