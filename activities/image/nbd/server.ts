import type { Duplex } from 'node:stream';
import { failureTypeOf } from '../../failures.js';
import { createBufferPool, type BufferPool } from '../buffer-pool.js';
import { createByteReader, type ByteReader } from './byte-reader.js';
import { createGate } from './gate.js';
import { negotiate } from './handshake.js';
import {
  COMMAND,
  ERROR,
  FLAG,
  MAX_PAYLOAD,
  parseRequest,
  REPLY_BYTES,
  REQUEST_BYTES,
  writeReplyHead,
  type NbdRequest,
} from './protocol.js';

/** Requests under way at once, and the memory of their replies; QEMU sends at most 16 of at most 2 MiB. */
const IN_FLIGHT = { requests: 64, bytes: MAX_PAYLOAD };
/** Memory of replies that is kept for the next ones. */
const KEPT_BYTES = 16 * 1024 * 1024;

/** What a client sees as one disk. What is missing is not offered to it. */
export interface NbdExport {
  /** In bytes; requests beyond it are refused before they come here. */
  readonly size: number;
  /** Fills `target` with what is at `offset`. Called concurrently. */
  readonly read?: (offset: number, target: Buffer) => Promise<void>;
  /** Called for each piece of a request as it arrives, in order, one after the other; `data` is valid until it resolves. */
  readonly write?: (offset: number, data: Buffer) => Promise<void>;
  /** The range reads as zeros from now on. In order with `write`. */
  readonly zero?: (offset: number, length: number) => Promise<void>;
  /** All finished writes are where they are to be. In order with `write`. */
  readonly flush?: () => Promise<void>;
}

/** A client being served. */
export interface NbdConnection {
  /** Resolves when the client has left, well or not, and no operation of the export is running. */
  readonly ended: Promise<void>;
  /** The first error that the export threw. To the client it is EIO; what it means is known here only. */
  readonly failure: { readonly error: unknown } | undefined;
  /** Requests received. */
  readonly requests: number;
  /** Operations of the export that are running: while there are any, the client waits for us. */
  readonly working: number;
  /** Sends the client away. */
  close(): void;
}

interface Session {
  readonly socket: Duplex;
  readonly exported: NbdExport;
  readonly reader: ByteReader;
  readonly pool: BufferPool;
  failure: { error: unknown } | undefined;
  requests: number;
  working: number;
}

/**
 * Serves an export to one client on a connected socket, by fixed newstyle negotiation and simple replies. Whatever the client
 * sends, no more than 32 MiB are held for it. `onRequest` is called when a request comes and when one is done.
 */
export function serveNbd(
  socket: Duplex,
  exported: NbdExport,
  onRequest = (): void => undefined,
): NbdConnection {
  const session: Session = {
    socket,
    exported,
    reader: createByteReader(socket),
    pool: createBufferPool(KEPT_BYTES),
    failure: undefined,
    requests: 0,
    working: 0,
  };
  // a client that is gone is told nothing, and its end is seen where the next request is read
  socket.on('error', () => undefined);
  const ended = converse(session, onRequest)
    .catch(() => undefined)
    .finally(() => socket.destroy());
  return {
    ended,
    get failure() {
      return session.failure;
    },
    get requests() {
      return session.requests;
    },
    get working() {
      return session.working;
    },
    close: () => void socket.destroy(),
  };
}

function flagsOf({ write, zero, flush }: NbdExport): number {
  if (!write) return FLAG.hasFlags | FLAG.readOnly;
  return FLAG.hasFlags | (flush ? FLAG.sendFlush : 0) | (zero ? FLAG.sendTrim | FLAG.sendWriteZeroes : 0);
}

/** From the greeting to the end. Writing commands are carried out in order, reads at the same time. */
async function converse(session: Session, onRequest: () => void): Promise<void> {
  const { reader, exported, socket } = session;
  if (!(await negotiate(reader, socket, { size: exported.size, flags: flagsOf(exported) }))) return;
  const gate = createGate(IN_FLIGHT);
  try {
    for (;;) {
      const head = await reader.take(REQUEST_BYTES);
      if (!head) return;
      const request = parseRequest(head);
      if (request.type === COMMAND.disconnect) return;
      session.requests += 1;
      onRequest();
      if (request.type !== COMMAND.read) {
        if (!(await obey(session, request))) return;
        onRequest();
        continue;
      }
      const bytes = REPLY_BYTES + Math.min(request.length, MAX_PAYLOAD);
      await gate.enter(bytes);
      void answerRead(session, request)
        .finally(() => gate.leave(bytes))
        .then(onRequest);
    }
  } finally {
    await gate.empty();
  }
}

async function answerRead(session: Session, { cookie, offset, length }: NbdRequest): Promise<void> {
  const { exported } = session;
  const inside = exported.read && length <= MAX_PAYLOAD && offset + length <= exported.size;
  if (!inside) return reply(session, cookie, ERROR.invalid);
  const memory = session.pool.take(REPLY_BYTES + length);
  const answer = memory.subarray(0, REPLY_BYTES + length);
  const error = await attempt(session, () => exported.read?.(offset, answer.subarray(REPLY_BYTES)));
  if (error === ERROR.none) await send(session, writeReplyHead(answer, cookie, ERROR.none));
  else await reply(session, cookie, error);
  session.pool.give(memory);
}

/** Carries out a command that may change the disk; whether the client is still there. */
async function obey(session: Session, request: NbdRequest): Promise<boolean> {
  const { exported, reader } = session;
  const { type, cookie, offset, length } = request;
  let error = refusal(exported, request);
  if (type === COMMAND.write) {
    let at = offset;
    const whole = await reader.drain(length, async (piece) => {
      const place = at;
      at += piece.length;
      if (error === ERROR.none) error = await attempt(session, () => exported.write?.(place, piece));
    });
    if (!whole) return false;
  } else if (error === ERROR.none) {
    error = await attempt(session, () =>
      type === COMMAND.flush ? exported.flush?.() : exported.zero?.(offset, length),
    );
  }
  await reply(session, cookie, error);
  return true;
}

function refusal(exported: NbdExport, { type, offset, length }: NbdRequest): number {
  const { write, zero, flush, size } = exported;
  if (!write) return ERROR.perm;
  if (type === COMMAND.flush) return flush ? ERROR.none : ERROR.invalid;
  if (type !== COMMAND.write && (!zero || (type !== COMMAND.trim && type !== COMMAND.writeZeroes)))
    return ERROR.invalid;
  if (type === COMMAND.write && length > MAX_PAYLOAD) return ERROR.invalid;
  return offset + length <= size ? ERROR.none : ERROR.noSpace;
}

/** Runs one operation of the export; the error to tell the client. */
async function attempt(session: Session, operation: () => Promise<void> | undefined): Promise<number> {
  session.working += 1;
  try {
    await operation();
    return ERROR.none;
  } catch (error) {
    session.failure ??= { error };
    return failureTypeOf(error) === 'NoSpace' ? ERROR.noSpace : ERROR.io;
  } finally {
    session.working -= 1;
  }
}

function reply(session: Session, cookie: bigint, error: number): Promise<void> {
  return send(session, writeReplyHead(Buffer.alloc(REPLY_BYTES), cookie, error));
}

/** Resolves when the bytes are on their way, or cannot be any more. */
function send({ socket }: Session, bytes: Buffer): Promise<void> {
  if (!socket.writable) return Promise.resolve();
  return new Promise((resolve) => socket.write(bytes, () => resolve()));
}
