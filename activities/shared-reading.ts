/**
 * Lets all who ask at the same time share one reading. A reading that has begun serves nobody who asks later, so that no answer
 * is older than its question; two hundred claims at once then cost a few lists instead of two hundred.
 */
export function shareReading<T>(read: () => Promise<T>): () => Promise<T> {
  let last: Promise<unknown> = Promise.resolve();
  let waiting: Promise<T> | undefined;
  return async () => {
    waiting ??= last.then(() => {
      waiting = undefined;
      const reading = read();
      last = reading.catch(() => undefined);
      return reading;
    });
    return await waiting;
  };
}
