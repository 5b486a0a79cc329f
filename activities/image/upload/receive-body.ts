import type { IncomingMessage } from 'node:http';
import { createStallWatch } from '../source/stall.js';

/** How the body of one request ended. */
export type Received = 'ended' | 'broken' | 'stalled' | 'refused';

/** What takes a body. */
export interface BodyTaker {
  /** Takes a piece; `false`: nothing more is taken of this body. A promise is awaited before the next piece is read. */
  take(piece: Buffer): false | undefined | Promise<false | undefined>;
  /** No byte for so long, while one is asked for, ends the request. In ms. */
  readonly stallMs: number;
}

/**
 * Reads the body of a request at the speed of its taker. The request is left as it is, so that an answer can still be given: what
 * follows of the body is not read.
 */
export async function receiveBody(request: IncomingMessage, taker: BodyTaker): Promise<Received> {
  return await new Promise<Received>((resolve) => {
    const watch = createStallWatch(taker.stallMs, () => done('stalled'));
    let over = false;
    let taking: Promise<unknown> | undefined;
    function done(how: Received): void {
      if (over) return;
      over = true;
      watch.stop();
      request.off('data', onData).off('end', onEnd).off('close', onBreak).off('error', onBreak);
      request.on('error', () => undefined);
      request.pause();
      resolve(how);
    }
    function onData(piece: Buffer): void {
      watch.arm();
      const taken = taker.take(piece);
      if (taken === false) return done('refused');
      if (taken === undefined) return;
      // the taker is slow, not the client
      watch.disarm();
      request.pause();
      taking = taken.then(
        (more) => {
          taking = undefined;
          if (more === false) return done('refused');
          if (over) return;
          watch.arm();
          request.resume();
        },
        () => done('refused'),
      );
    }
    // a body that was cut off may end like a whole one; and its last piece may still be on its way
    function onEnd(): void {
      if (taking) void taking.then(onEnd);
      else done(request.complete ? 'ended' : 'broken');
    }
    const onBreak = (): void => {
      if (!request.complete || !request.readableEnded) return done('broken');
      onEnd();
    };
    if (request.destroyed && !request.readableEnded) return done('broken');
    request.on('data', onData).on('end', onEnd).on('close', onBreak).on('error', onBreak);
    watch.arm();
    request.resume();
  });
}
