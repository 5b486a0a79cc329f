import type { IncomingMessage, ServerResponse } from 'node:http';
import { answerFailure } from '../../activities/data-port/answers.js';
import type { DataPortFailure, DataPortPeer, DataPortResource } from '../../activities/types/data-port.js';

/** A transfer may wait for a slot while others move. */
const PATIENCE_MS = 60_000;
/** Whoever sends a file has nobody else to send it to: as long as the gateway waits for a place. */
const UPLOAD_PATIENCE_MS = 5 * 60_000;
/** A client that has just been let in comes within this time, and is told then. */
const REFUSED_MS = 5_000;

/** What is open, by path. */
export interface Resources {
  open(resource: DataPortResource): () => void;
  answer(request: IncomingMessage, response: ServerResponse, peer: string): Promise<void>;
  /** See {@link UploadPort.waitingFor}. */
  waitingFor(path: string): readonly string[];
  /** See {@link UploadPort.refuse}. */
  refuse(path: string, failure: DataPortFailure, session?: string): void;
  /** Whoever waits for a resource is told that it will not come. */
  close(): void;
}

/** A request that waits. */
interface Waiting {
  readonly session: string;
  readonly come: (refused?: DataPortFailure) => void;
}

/** Hands each request to the resource that it names; one whose resource is not open yet waits for it, unread. */
export function createResources(patienceMs?: number): Resources {
  const open = new Map<string, DataPortResource>();
  const waiting = new Map<string, Set<Waiting>>();
  const refused = new Map<string, { readonly failure: DataPortFailure; readonly session: string }>();

  /** The resource, when it is open; what its requests are refused with; or nothing, where it does not come. */
  async function find(
    path: string,
    session: string,
    response: ServerResponse,
  ): Promise<DataPortResource | DataPortFailure | undefined> {
    const found = open.get(path);
    if (found) return found;
    const known = refused.get(path);
    if (known?.session === session) return known.failure;
    const patience = patienceMs ?? (path.startsWith('/upload/') ? UPLOAD_PATIENCE_MS : PATIENCE_MS);
    const failure = await new Promise<DataPortFailure | undefined>((resolve) => {
      const others = waiting.get(path) ?? new Set();
      waiting.set(path, others);
      const leave = (): void => come();
      const timer = setTimeout(leave, patience);
      const mine = { session, come };
      others.add(mine);
      // nobody waits any more
      response.once('close', leave);
      function come(why?: DataPortFailure): void {
        clearTimeout(timer);
        response.off('close', leave);
        others.delete(mine);
        if (others.size === 0) waiting.delete(path);
        resolve(why);
      }
    });
    return failure ?? open.get(path);
  }

  async function answer(request: IncomingMessage, response: ServerResponse, peer: string): Promise<void> {
    const path = pathOf(request);
    if (path === undefined)
      return answerFailure(
        response,
        { type: 'SourceNotFound', message: 'no such path', retryable: false },
        404,
      );
    const resource = await find(path, sessionOf(request), response);
    if (response.destroyed) return;
    if (resource && 'retryable' in resource) return answerFailure(response, resource);
    if (!resource) return answerFailure(response, notOpen(path), 503);
    if (!resource.peers.includes(peer as DataPortPeer))
      return answerFailure(
        response,
        { type: 'NotAuthorized', message: `${peer} may not use ${path}`, retryable: false },
        403,
      );
    await resource.handle(request, response);
  }

  return {
    open(resource) {
      const path = `/${resource.kind}/${resource.uid}`;
      open.set(path, resource);
      refused.delete(path);
      for (const { come } of [...(waiting.get(path) ?? [])]) come();
      return () => {
        if (open.get(path) === resource) open.delete(path);
      };
    },
    answer,
    waitingFor: (path) => [...(waiting.get(path) ?? [])].map(({ session }) => session),
    refuse(path, failure, session) {
      for (const one of [...(waiting.get(path) ?? [])])
        if (session === undefined || one.session === session) one.come(failure);
      if (session === undefined || open.has(path)) return;
      const mine = { failure, session };
      refused.set(path, mine);
      setTimeout(() => refused.get(path) === mine && refused.delete(path), REFUSED_MS).unref();
    },
    close() {
      open.clear();
      for (const others of [...waiting.values()]) for (const { come } of [...others]) come();
    },
  };
}

/** `/upload/<uid>` or `/volume/<uid>`, decoded; the query is the resource's own matter. */
function pathOf({ url = '' }: IncomingMessage): string | undefined {
  try {
    const path = decodeURIComponent(url.split('?', 1)[0] ?? '');
    return /^\/(upload|volume)\/[\w.:-]{1,200}$/.test(path) ? path : undefined;
  } catch {
    return undefined;
  }
}

function sessionOf({ url = '' }: IncomingMessage): string {
  return new URLSearchParams(url.split('?', 2)[1] ?? '').get('session') ?? '';
}

function notOpen(path: string): DataPortFailure {
  return {
    type: 'NodeUnavailable',
    message: `${path} is not open on this node: nothing is received or served here now, or every transfer slot is taken`,
    retryable: true,
  };
}
