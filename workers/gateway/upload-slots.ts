/** How many bodies a gateway moves at once: its memory is bounded by them. */
import { UploadError } from './upload-failures.js';

/** Slots of one gateway. */
export interface UploadSlots {
  /** Bodies on their way. */
  readonly taken: number;
  /** Takes a slot; the returned function gives it back, once. @throws UploadError 503 when all are taken */
  take(): () => void;
  /**
   * Runs what waits for the first byte of a body, in a place among those of which nothing has come yet. Only a few of them are one
   * claim's: where one more comes, the one that has waited for longest has its signal aborted.
   * @throws UploadError 503 when all places are taken
   */
  wait<T>(claimUid: string, beginning: (dismissed: AbortSignal) => Promise<T>): Promise<T>;
}

/** Bodies that wait for each that moves: they cost a connection each, and nothing is known of their clients but a token. */
const WAITING_FOR_EACH = 16;
/** Bodies of one claim that wait: one is received at a time, the others are connections that have broken without a word. */
const WAITING_OF_CLAIM = 4;

/** So many slots; `changed` is told how many are taken. */
export function createUploadSlots(
  slots: number,
  changed: (taken: number) => void = () => undefined,
): UploadSlots {
  const moving = createPlaces(slots, `${slots} uploads are under way through this gateway`, changed);
  const most = slots * WAITING_FOR_EACH;
  const waiting = createPlaces(most, `${most} uploads that have sent nothing wait on this gateway`);
  const ofClaims = createShares();
  return {
    get taken() {
      return moving.taken;
    },
    take: () => moving.take(),
    async wait(claimUid, beginning) {
      const share = ofClaims.enter(claimUid);
      try {
        const leave = waiting.take();
        // at once: its place is for the one that comes
        share.dismissed.addEventListener('abort', leave);
        return await beginning(share.dismissed).finally(leave);
      } finally {
        share.leave();
      }
    },
  };
}

/** One body's part of what its claim may have. */
interface Share {
  /** Aborted when it has to leave. */
  readonly dismissed: AbortSignal;
  leave(): void;
}

/**
 * Shares of claims. The newest ones are let in: a client that has lost its connection comes again by another one, long before the old
 * one is known to be dead.
 */
function createShares(): { enter(claimUid: string): Share } {
  const claims = new Map<string, Set<AbortController>>();
  return {
    enter(claimUid) {
      const bodies = claims.get(claimUid) ?? new Set();
      claims.set(claimUid, bodies);
      const [oldest] = bodies;
      if (oldest && bodies.size >= WAITING_OF_CLAIM) {
        bodies.delete(oldest);
        oldest.abort(dismissal());
      }
      const own = new AbortController();
      bodies.add(own);
      return {
        dismissed: own.signal,
        leave() {
          bodies.delete(own);
          if (bodies.size === 0 && claims.get(claimUid) === bodies) claims.delete(claimUid);
        },
      };
    },
  };
}

function dismissal(): UploadError {
  const newer = `${WAITING_OF_CLAIM} newer uploads into the same claim wait on this gateway`;
  return new UploadError(503, `${newer}, and this one has sent nothing: try again later`);
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
