import type { IncomingMessage, ServerResponse } from 'node:http';
import { answerFailure } from '../../activities/data-port/answers.js';
import type { DataPortPeer, DataPortResource } from '../../activities/types/data-port.js';

/** A transfer may wait for a slot while others move. */
const PATIENCE_MS = 60_000;

/** What is open, by path. */
export interface Resources {
  open(resource: DataPortResource): () => void;
  answer(request: IncomingMessage, response: ServerResponse, peer: string): Promise<void>;
  /** Whoever waits for a resource is told that it will not come. */
  close(): void;
}

/** Hands each request to the resource that it names; one whose resource is not open yet waits for it, unread. */
export function createResources(patienceMs = PATIENCE_MS): Resources {
  const open = new Map<string, DataPortResource>();
  const waiting = new Map<string, Set<() => void>>();

  async function find(path: string): Promise<DataPortResource | undefined> {
    const found = open.get(path);
    if (found) return found;
    await new Promise<void>((resolve) => {
      const others = waiting.get(path) ?? new Set();
      waiting.set(path, others);
      const timer = setTimeout(come, patienceMs);
      others.add(come);
      function come(): void {
        clearTimeout(timer);
        others.delete(come);
        if (others.size === 0) waiting.delete(path);
        resolve();
      }
    });
    return open.get(path);
  }

  async function answer(request: IncomingMessage, response: ServerResponse, peer: string): Promise<void> {
    const path = pathOf(request);
    if (path === undefined)
      return answerFailure(
        response,
        { type: 'SourceNotFound', message: 'no such path', retryable: false },
        404,
      );
    const resource = await find(path);
    if (response.destroyed) return;
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
      for (const come of [...(waiting.get(path) ?? [])]) come();
      return () => {
        if (open.get(path) === resource) open.delete(path);
      };
    },
    answer,
    close() {
      open.clear();
      for (const others of [...waiting.values()]) for (const come of [...others]) come();
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

function notOpen(path: string): Parameters<typeof answerFailure>[1] {
  return {
    type: 'NodeUnavailable',
    message: `${path} is not open on this node: nothing is received or served here now, or every transfer slot is taken`,
    retryable: true,
  };
}
