/**
 * Follows one kind of object for good: list, compare, watch from there, and list again every few minutes whatever the watch
 * says. client-node's own informer stops for ever at the first error, so this is a supervisor around its bare `Watch`.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { Watch, type KubeConfig } from '@kubernetes/client-node';
import type { Logger } from '@temporalio/common';
import { backOff } from './key-queue.js';
import { createLister, StaleVersionError } from './lister.js';

/** Time between two lists, in ms: how late something can be that the watch did not say. */
const RELIST_MS = 300_000;

/** The API server ends a watch after so many seconds; a new one follows from where it ended. */
const WATCH_SECONDS = 240;

/** What is known of an object of any kind. */
export interface WatchedObject {
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid: string;
    readonly resourceVersion?: string;
  };
}

/** The objects as last heard of. */
export interface ListWatch<T> {
  get(key: string): T | undefined;
  all(): readonly T[];
  /** The first list is complete. */
  synced(): boolean;
  /** When the API server was last heard, ms since the epoch; 0 for never. */
  lastHeardAt(): number;
  /** Stops for good. */
  stop(): Promise<void>;
}

/** What to follow, and who is told. */
export interface ListWatchOptions<T> {
  readonly kubeConfig: KubeConfig;
  /** `/api/v1/persistentvolumes`. */
  readonly path: string;
  /** @default 300_000 */
  readonly relistMs?: number | undefined;
  readonly logger: Pick<Logger, 'warn' | 'debug'>;
  /**
   * Told of every object that is listed, changed or gone; `before` and `after` may be the same, and may be two objects of one
   * name. Only notes what is to be done: an error thrown here would be lost.
   */
  changed(key: string, change: { before?: T; after?: T }): void;
  /** A list is complete. */
  listed?(): void;
}

/** `<namespace>/<name>`, or the name of an object without a namespace. */
export function keyOf({ metadata: { namespace, name } }: WatchedObject): string {
  return namespace === undefined ? name : `${namespace}/${name}`;
}

/** Starts to follow; never gives up. */
export function startListWatch<T extends WatchedObject>(options: ListWatchOptions<T>): ListWatch<T> {
  const { path, logger, relistMs = RELIST_MS } = options;
  const lister = createLister<T>(options.kubeConfig, path);
  const stopping = new AbortController();
  let objects = new Map<string, T>();
  let synced = false;
  let heardAt = 0;

  /** As options.changed, without what is absent. */
  function tell(key: string, before: T | undefined, after: T | undefined): void {
    options.changed(key, { ...(before ? { before } : {}), ...(after ? { after } : {}) });
  }

  async function list(): Promise<string> {
    const { items, resourceVersion } = await lister.list(stopping.signal);
    heardAt = Date.now();
    const before = objects;
    objects = new Map(items.map((item) => [keyOf(item), item]));
    for (const [key, object] of objects) tell(key, before.get(key), object);
    for (const [key, object] of before) if (!objects.has(key)) tell(key, object, undefined);
    synced = true;
    options.listed?.();
    return resourceVersion;
  }

  function apply(type: string, object: T): void {
    const key = keyOf(object);
    const before = objects.get(key);
    if (type === 'DELETED') objects.delete(key);
    else objects.set(key, object);
    tell(key, before ?? (type === 'DELETED' ? object : undefined), type === 'DELETED' ? undefined : object);
  }

  /** One watch; resolves with the version it reached, when it ended as watches do. */
  async function watch(from: string, signal: AbortSignal): Promise<string> {
    return await new Promise((resolve, reject) => {
      let version = from;
      let stale: Error | undefined;
      const end = (error: unknown): void => {
        if (stale) reject(stale);
        else if (!error || signal.aborted || isSilence(error)) resolve(version);
        else reject(statusOf(error) === 410 ? new StaleVersionError() : asError(error));
      };
      const hear = (type: string, object: T): void => {
        // A newer list may have begun: what an older watch says no longer counts.
        if (signal.aborted) return;
        heardAt = Date.now();
        if (type === 'ERROR') stale = new StaleVersionError(JSON.stringify(object));
        if (stale) return;
        version = object.metadata.resourceVersion ?? version;
        if (type !== 'BOOKMARK') apply(type, object);
      };
      const query = {
        allowWatchBookmarks: true,
        timeoutSeconds: WATCH_SECONDS,
        resourceVersion: from,
      };
      if (signal.aborted) return resolve(from);
      // The controller comes only when the server has answered, and stopping must not wait for that.
      signal.addEventListener('abort', () => resolve(version), { once: true });
      new Watch(options.kubeConfig).watch(path, query, hear, end).then((controller) => {
        if (signal.aborted) controller.abort();
        else signal.addEventListener('abort', () => controller.abort(), { once: true });
      }, reject);
    });
  }

  /** Watches until the next list is due. */
  async function follow(from: string): Promise<void> {
    const due = AbortSignal.any([stopping.signal, AbortSignal.timeout(relistMs)]);
    for (let version = from; !due.aborted;) {
      const startedAt = Date.now();
      version = await watch(version, due);
      // A server that ends every watch at once must not be asked in a busy loop.
      if (Date.now() - startedAt < 1000 && !due.aborted) await pause(1000, undefined, { signal: due });
    }
  }

  async function run(): Promise<void> {
    for (let failures = 0; !stopping.signal.aborted;) {
      try {
        await follow(await list());
        failures = 0;
      } catch (error) {
        if (stopping.signal.aborted) return;
        if (isAbort(error)) continue;
        failures = error instanceof StaleVersionError ? 1 : failures + 1;
        const retryInMs = Math.min(backOff(failures), 10_000);
        logger.warn('list or watch ended, starting anew', { path, error, retryInMs });
        await pause(retryInMs, undefined, { signal: stopping.signal }).catch(() => undefined);
      }
    }
  }

  const running = run();
  return {
    get: (key) => objects.get(key),
    all: () => [...objects.values()],
    synced: () => synced,
    lastHeardAt: () => heardAt,
    async stop() {
      stopping.abort();
      await running;
    },
  };
}

/** client-node cuts a watch after 30 s without a byte; bookmarks come once a minute. */
function isSilence(error: unknown): boolean {
  return error instanceof Error && error.name === 'TimeoutError';
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError';
}

function statusOf(error: unknown): unknown {
  return error instanceof Error && 'statusCode' in error ? error.statusCode : undefined;
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
