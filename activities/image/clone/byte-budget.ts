/** Memory that many answers share: who finds it taken waits, and reads nothing meanwhile. */
export interface ByteBudget {
  /** Waits for so many bytes, in turn; what it resolves to gives them back, once. @throws the signal's reason */
  take(bytes: number, signal: AbortSignal): Promise<() => void>;
}

interface Waiting {
  readonly bytes: number;
  readonly go: () => void;
}

/** A budget of so many bytes; nobody may ask for more than all of it. */
export function createByteBudget(total: number): ByteBudget {
  let free = total;
  const queue: Waiting[] = [];

  function serve(): void {
    for (let next = queue[0]; next && next.bytes <= free; next = queue[0]) {
      queue.shift();
      free -= next.bytes;
      next.go();
    }
  }

  function giver(bytes: number): () => void {
    let given = false;
    return () => {
      if (given) return;
      given = true;
      free += bytes;
      serve();
    };
  }

  return {
    async take(bytes, signal) {
      signal.throwIfAborted();
      await new Promise<void>((resolve, reject) => {
        const waiting = { bytes, go };
        function go(): void {
          signal.removeEventListener('abort', leave);
          resolve();
        }
        function leave(): void {
          queue.splice(queue.indexOf(waiting), 1);
          reject(signal.reason as Error);
          serve();
        }
        signal.addEventListener('abort', leave, { once: true });
        queue.push(waiting);
        serve();
      });
      return giver(bytes);
    },
  };
}
