/** How many bodies a gateway moves at once: its memory is bounded by them. */
import { UploadError } from './upload-failures.js';

/** Slots of one gateway. */
export interface UploadSlots {
  /** Bodies on their way. */
  readonly taken: number;
  /** Takes a slot; the returned function gives it back, once. @throws UploadError 503 when all are taken */
  take(): () => void;
  /** Takes a place among the bodies of which nothing has come yet, as {@link take} does. @throws UploadError 503 when all are taken */
  wait(): () => void;
}

/** Bodies that wait for each that moves: they cost a connection each, and nothing is known of their clients but a token. */
const WAITING_FOR_EACH = 16;

/** So many slots; `changed` is told how many are taken. */
export function createUploadSlots(
  slots: number,
  changed: (taken: number) => void = () => undefined,
): UploadSlots {
  const moving = createPlaces(slots, `${slots} uploads are under way through this gateway`, changed);
  const most = slots * WAITING_FOR_EACH;
  const waiting = createPlaces(most, `${most} uploads that have sent nothing wait on this gateway`);
  return {
    get taken() {
      return moving.taken;
    },
    take: () => moving.take(),
    wait: () => waiting.take(),
  };
}

function createPlaces(
  places: number,
  full: string,
  changed: (taken: number) => void = () => undefined,
): Pick<UploadSlots, 'take' | 'taken'> {
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
      if (taken >= places) throw new UploadError(503, `${full}: try again later`);
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
