/**
 * Names of resumable uploads. A gateway keeps nothing, so that another one can go on: what the protocol has to know of an upload is
 * in its name. Nothing is believed by it: which claim is written to is said by the token of whoever names it, and how much by the claim.
 */
import { byteLimit } from '../byte-limit.js';
import type { UploadClaim } from '../upload-claims.js';
import { UploadError } from '../upload-failures.js';

/** What an upload's name holds. */
export interface UploadName {
  /** Session at the data port. */
  readonly session: string;
  /** uid of the claim that it was made for. */
  readonly claimUid: string;
  /** Bytes of the whole file. */
  readonly length: number;
  /** When it was made, in ms since the epoch. */
  readonly created: number;
  /** As the client gave it; the protocol has it told again. */
  readonly metadata: Readonly<Record<string, string | null>>;
}

/** Longest name, as it stands in an address. */
const MAX_NAME = 2_048;

/** Names an upload; undefined where its metadata are too large for a name. */
export function nameUpload({ session, claimUid, length, created, metadata }: UploadName): string | undefined {
  const name = Buffer.from(JSON.stringify([session, claimUid, length, created, metadata])).toString(
    'base64url',
  );
  return name.length <= MAX_NAME ? name : undefined;
}

/** Reads a name; undefined for anything that {@link nameUpload} does not make. */
export function readUploadName(name: string): UploadName | undefined {
  if (name.length > MAX_NAME) return undefined;
  const parts = parse(Buffer.from(name, 'base64url').toString());
  if (!Array.isArray(parts)) return undefined;
  const [session, claimUid, length, created, metadata] = parts as unknown[];
  if (typeof session !== 'string' || !/^[\w-]{1,128}$/.test(session)) return undefined;
  if (typeof claimUid !== 'string' || !isCount(length) || !isCount(created) || !isMetadata(metadata))
    return undefined;
  return { session, claimUid, length, created, metadata };
}

/** Reads a name for a claim. @throws UploadError 404 for one that is none, is another claim's, or is of more than may be sent into this one */
export function requireName(id: string, claim: UploadClaim): UploadName {
  const name = readUploadName(id);
  // whoever has made a name up is held to the limit as well
  if (!name || name.claimUid !== claim.uid || name.length > byteLimit(claim).limitBytes)
    throw new UploadError(404, 'there is no such upload for the claim of this token');
  return name;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isMetadata(value: unknown): value is UploadName['metadata'] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  return Object.values(value).every((member) => member === null || typeof member === 'string');
}
