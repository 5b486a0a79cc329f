import type { UploadRequest } from '../../types/upload.js';
import type { OpenResource } from '../../types/data-port.js';
import type { Feed } from './feed.js';

/** A session that is being received on this node, and its place on the data port. */
export interface Reception {
  readonly feed: Feed;
  readonly open: OpenResource;
}

/** Scratch space is made within seconds; where it is not, its workflow says so long before. */
const PARKED_MS = 600_000;

/** Whether two requests mean the same file of the same client. */
export function isSameSession(one: UploadRequest, other: UploadRequest): boolean {
  return (
    one.session === other.session &&
    one.length === other.length &&
    one.checksum === other.checksum &&
    one.contentType === other.contentType
  );
}

/**
 * Sessions of this worker, by uid of what they fill. One that waits for scratch space stays here between two activities, with its
 * client's request unread.
 */
export class UploadDesk {
  readonly #receptions = new Map<string, Reception>();
  readonly #parked = new Map<string, NodeJS.Timeout>();

  /** The session of a uid; it is looked at only. */
  get(uid: string): Reception | undefined {
    return this.#receptions.get(uid);
  }

  /** The session of a uid, which does not wait any more. */
  take(uid: string): Reception | undefined {
    clearTimeout(this.#parked.get(uid));
    this.#parked.delete(uid);
    return this.#receptions.get(uid);
  }

  /** Keeps a session until it is taken, and at most so long; nobody may come for it. */
  park(uid: string, reception: Reception, expire: () => void): void {
    const timer = setTimeout(() => {
      this.#parked.delete(uid);
      if (this.#receptions.get(uid) === reception) expire();
    }, PARKED_MS);
    timer.unref();
    this.#parked.set(uid, timer);
  }

  enter(uid: string, reception: Reception): void {
    this.#receptions.set(uid, reception);
  }

  /** Closes a session's place on the data port; the feed has been settled. */
  leave(uid: string, reception: Reception): void {
    reception.open[Symbol.dispose]();
    if (this.#receptions.get(uid) === reception) this.#receptions.delete(uid);
  }
}
