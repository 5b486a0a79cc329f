import type { Writable } from 'node:stream';
import type { ByteReader } from './byte-reader.js';
import { HANDSHAKE, INFO, MAGIC, MAX_PAYLOAD, NbdProtocolError, OPTION, REPLY } from './protocol.js';

/** Longest data of an option: an export's name (4096 bytes) and what is asked about it. */
const MAX_OPTION_BYTES = 8192;
/** An honest client needs three or four. */
const MAX_OPTIONS = 64;
/** What a client may best ask for at once, and where its requests may begin. */
const BLOCK_SIZE = { minimum: 1, preferred: 64 * 1024, maximum: MAX_PAYLOAD };

interface Announcement {
  readonly size: number;
  /** Transmission flags. */
  readonly flags: number;
}

/**
 * Fixed newstyle negotiation (`doc/proto.md`, "Handshake"): one export, by the empty name. Resolves to whether transmission
 * begins; `false` where the client left. @throws {@link NbdProtocolError}
 */
export async function negotiate(
  reader: ByteReader,
  out: Writable,
  announcement: Announcement,
): Promise<boolean> {
  const greeting = Buffer.alloc(2);
  greeting.writeUInt16BE(HANDSHAKE.fixedNewstyle | HANDSHAKE.noZeroes);
  out.write(Buffer.concat([MAGIC.init, MAGIC.option, greeting]));
  const answer = await reader.take(4);
  if (!answer) return false;
  const flags = answer.readUInt32BE();
  if ((flags & ~(HANDSHAKE.fixedNewstyle | HANDSHAKE.noZeroes)) !== 0)
    throw new NbdProtocolError('unknown client flags');
  for (let count = 0; count < MAX_OPTIONS; count += 1) {
    const head = await reader.take(16);
    if (!head) return false;
    if (!head.subarray(0, 8).equals(MAGIC.option)) throw new NbdProtocolError('not an NBD option');
    const option = head.readUInt32BE(8);
    const data = await takeData(reader, head.readUInt32BE(12));
    if (!data) return false;
    if (option === OPTION.exportName) {
      if (data.length > 0) throw new NbdProtocolError('no export of that name');
      out.write(exportNameReply(announcement, (flags & HANDSHAKE.noZeroes) !== 0));
      return true;
    }
    if (answerOption(out, option, data, announcement)) return option === OPTION.go;
  }
  throw new NbdProtocolError('too many options');
}

function takeData(reader: ByteReader, length: number): Promise<Buffer | undefined> {
  if (length > MAX_OPTION_BYTES) throw new NbdProtocolError('option too long');
  return reader.take(length);
}

function exportNameReply({ size, flags }: Announcement, noZeroes: boolean): Buffer {
  const reply = Buffer.alloc(noZeroes ? 10 : 134);
  reply.writeBigUInt64BE(BigInt(size), 0);
  reply.writeUInt16BE(flags, 8);
  return reply;
}

/** Answers one option; whether it was the last. */
function answerOption(out: Writable, option: number, data: Buffer, announcement: Announcement): boolean {
  const reply = (type: number, content: Buffer = Buffer.alloc(0)): void => {
    const head = Buffer.alloc(20);
    head.writeBigUInt64BE(MAGIC.optionReply, 0);
    head.writeUInt32BE(option, 8);
    head.writeUInt32BE(type, 12);
    head.writeUInt32BE(content.length, 16);
    out.write(Buffer.concat([head, content]));
  };
  switch (option) {
    case OPTION.abort:
      reply(REPLY.ack);
      return true;
    case OPTION.list:
      reply(REPLY.server, Buffer.alloc(4));
      reply(REPLY.ack);
      return false;
    case OPTION.info:
    case OPTION.go: {
      const refused = refuseName(data);
      if (refused !== undefined) return (reply(refused), false);
      reply(REPLY.info, exportInfo(announcement));
      reply(REPLY.info, blockSizeInfo());
      reply(REPLY.ack);
      return option === OPTION.go;
    }
    default:
      reply(REPLY.unsupported);
      return false;
  }
}

/** `NBD_OPT_INFO` and `NBD_OPT_GO`: length of the name, name, number of information requests, those. */
function refuseName(data: Buffer): number | undefined {
  if (data.length < 6) return REPLY.invalid;
  const nameBytes = data.readUInt32BE(0);
  if (nameBytes > data.length - 6) return REPLY.invalid;
  if (data.length !== 6 + nameBytes + 2 * data.readUInt16BE(4 + nameBytes)) return REPLY.invalid;
  return nameBytes === 0 ? undefined : REPLY.unknown;
}

function exportInfo({ size, flags }: Announcement): Buffer {
  const info = Buffer.alloc(12);
  info.writeUInt16BE(INFO.export, 0);
  info.writeBigUInt64BE(BigInt(size), 2);
  info.writeUInt16BE(flags, 10);
  return info;
}

function blockSizeInfo(): Buffer {
  const info = Buffer.alloc(14);
  info.writeUInt16BE(INFO.blockSize, 0);
  info.writeUInt32BE(BLOCK_SIZE.minimum, 2);
  info.writeUInt32BE(BLOCK_SIZE.preferred, 6);
  info.writeUInt32BE(BLOCK_SIZE.maximum, 10);
  return info;
}
