/** What is disposed of together: `DisposableStack` and `AsyncDisposableStack` of ECMAScript, as far as they are used here. Node 22 has neither. */

/** Ends what was handed to it, the last first; once it was moved, nothing. */
export interface Disposables extends Disposable {
  use<T extends Disposable>(one: T): T;
  /** Ends `one` by `end`. */
  adopt<T>(one: T, end: (one: T) => void): T;
  /** Who disposes of all of it from now on. */
  move(): Disposable;
}

/** As {@link Disposables}, for what takes time to end. */
export interface AsyncDisposables extends AsyncDisposable {
  use<T extends AsyncDisposable>(one: T): T;
  /** Does `end` when it is disposed of. */
  defer(end: () => unknown): void;
  move(): AsyncDisposable;
}

/** None yet. Each is ended even where another one throws; the first error is thrown at the end. */
export function createDisposables(): Disposables {
  const ends: (() => void)[] = [];
  function adopt<T>(one: T, end: (one: T) => void): T {
    ends.push(() => end(one));
    return one;
  }
  return {
    use: (one) => adopt(one, () => one[Symbol.dispose]()),
    adopt,
    move: () => owner(ends.splice(0)),
    [Symbol.dispose]: () => owner(ends.splice(0))[Symbol.dispose](),
  };
}

function owner(ends: readonly (() => void)[]): Disposable {
  return {
    [Symbol.dispose]() {
      const errors: unknown[] = [];
      for (const end of ends.toReversed()) {
        try {
          end();
        } catch (error) {
          errors.push(error);
        }
      }
      if (errors.length > 0) throw errors[0];
    },
  };
}

/** As {@link createDisposables}; each is waited for before the next is ended. */
export function createAsyncDisposables(): AsyncDisposables {
  const ends: (() => unknown)[] = [];
  return {
    use(one) {
      ends.push(() => one[Symbol.asyncDispose]());
      return one;
    },
    defer: (end) => void ends.push(end),
    move: () => asyncOwner(ends.splice(0)),
    [Symbol.asyncDispose]: () => asyncOwner(ends.splice(0))[Symbol.asyncDispose](),
  };
}

function asyncOwner(ends: readonly (() => unknown)[]): AsyncDisposable {
  return {
    async [Symbol.asyncDispose]() {
      const errors: unknown[] = [];
      for (const end of ends.toReversed()) {
        try {
          await end();
        } catch (error) {
          errors.push(error);
        }
      }
      if (errors.length > 0) throw errors[0];
    },
  };
}
