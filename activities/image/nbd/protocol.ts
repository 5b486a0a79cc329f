/** Numbers of the NBD protocol (NetworkBlockDevice/nbd, `doc/proto.md`), by the names used there. All integers are big-endian. */
export const MAGIC = {
  init: Buffer.from('NBDMAGIC', 'latin1'),
  option: Buffer.from('IHAVEOPT', 'latin1'),
  /** Before each reply to an option. */
  optionReply: 0x0003_e889_0455_65a9n,
  request: 0x2560_9513,
  simpleReply: 0x6744_6698,
} as const;

/** `NBD_FLAG_FIXED_NEWSTYLE` and `NBD_FLAG_NO_ZEROES`; the client answers with the same two bits. */
export const HANDSHAKE = { fixedNewstyle: 1, noZeroes: 2 } as const;

export const OPTION = { exportName: 1, abort: 2, list: 3, info: 6, go: 7 } as const;

export const REPLY = {
  ack: 1,
  server: 2,
  info: 3,
  /** `NBD_REP_ERR_UNSUP`, `…_INVALID`, `…_UNKNOWN`, `…_TOO_BIG` */
  unsupported: 2 ** 31 + 1,
  invalid: 2 ** 31 + 3,
  unknown: 2 ** 31 + 6,
  tooBig: 2 ** 31 + 9,
} as const;

export const INFO = { export: 0, blockSize: 3 } as const;

/** Transmission flags. */
export const FLAG = { hasFlags: 1, readOnly: 2, sendFlush: 4, sendTrim: 32, sendWriteZeroes: 64 } as const;

export const COMMAND = { read: 0, write: 1, disconnect: 2, flush: 3, trim: 4, writeZeroes: 6 } as const;

/** Errors as the protocol numbers them; they are those of Linux. */
export const ERROR = { none: 0, perm: 1, io: 5, invalid: 22, noSpace: 28 } as const;

/** Largest payload of one request; what `NBD_INFO_BLOCK_SIZE` announces, and what clients take for the limit where nothing is said. */
export const MAX_PAYLOAD = 32 * 1024 * 1024;

/** Bytes of a request without its payload. */
export const REQUEST_BYTES = 28;
/** Bytes of a simple reply without its payload. */
export const REPLY_BYTES = 16;

/** One request of the transmission phase. */
export interface NbdRequest {
  readonly type: number;
  /** Identifies the request to the client; sent back as it is. */
  readonly cookie: bigint;
  readonly offset: number;
  readonly length: number;
}

/** The client does not speak the protocol; the connection ends. */
export class NbdProtocolError extends Error {
  override readonly name = 'NbdProtocolError';
}

/** Reads a request; an offset beyond 2^53 is `Infinity`, which is outside of every export. @throws {@link NbdProtocolError} */
export function parseRequest(head: Buffer): NbdRequest {
  if (head.readUInt32BE(0) !== MAGIC.request) throw new NbdProtocolError('not an NBD request');
  const offset = head.readBigUInt64BE(16);
  return {
    type: head.readUInt16BE(6),
    cookie: head.readBigUInt64BE(8),
    offset: offset > BigInt(Number.MAX_SAFE_INTEGER) ? Infinity : Number(offset),
    length: head.readUInt32BE(24),
  };
}

/** Writes the head of a simple reply to the first bytes of `reply`. */
export function writeReplyHead(reply: Buffer, cookie: bigint, error: number): Buffer {
  reply.writeUInt32BE(MAGIC.simpleReply, 0);
  reply.writeUInt32BE(error, 4);
  reply.writeBigUInt64BE(cookie, 8);
  return reply;
}
