/** Watches one wait at a time; `fired` tells its owner that the wait was ended by the watch. */
export interface StallWatch {
  /** A wait begins. */
  arm(): void;
  /** The wait ended, or the consumer has not asked: time that passes now is not the source's. */
  disarm(): void;
  readonly fired: boolean;
  stop(): void;
}

/** Calls `onStall` when a wait lasts `limitMs`. One timer serves all waits of a connection: arming it costs next to nothing. */
export function createStallWatch(limitMs: number, onStall: () => void): StallWatch {
  let armed = false;
  let fired = false;
  let waits = 0;
  const timer = setTimeout(() => {
    const late = waits;
    // a process that was held up finds its timers due before it has read what came meanwhile
    setImmediate(() => {
      if (!armed || waits !== late) return;
      fired = true;
      onStall();
    });
  }, limitMs);
  // the connection keeps the process alive, not the watch over it
  timer.unref();
  return {
    arm() {
      armed = true;
      waits += 1;
      timer.refresh();
    },
    disarm() {
      armed = false;
    },
    get fired() {
      return fired;
    },
    stop() {
      armed = false;
      clearTimeout(timer);
    },
  };
}
