/** Where an upload is: how far, and on which data port. Asking changes nothing; only a client whose bytes are there has one opened. */
import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import type { LocatedUpload, OpenedUpload, UploadRequest } from '../../../activities/types/upload.js';
import type { FailureType } from '../../../activities/types.js';
import { readOffset, sendToDataPort } from '../data-port.js';
import type { GatewayParts } from '../parts.js';
import { ClaimNotReadyError, type UploadClaim } from '../upload-claims.js';
import { failureTypeIn } from '../upload-failures.js';
import { beingJudged, type Sessions } from './sessions.js';
import type { UploadName } from './upload-id.js';

/** A client that asks how far an upload is waits so long for a file that is being judged, in ms; proxies cut no sooner. */
export const VERDICT_MS = 20_000;
/** Time until the second look meanwhile, in ms; from one to the next it doubles. */
const LOOK_MS = 500;
/** A file that nobody judges after this is received again, from its last byte on, in ms. */
const NOBODY_MS = 3_000;

/** What one request of the protocol is about. */
export interface TusRequest {
  readonly raw: IncomingMessage;
  /** Claim of the request's token. */
  readonly claim: UploadClaim;
  readonly gone: AbortSignal;
  /** The claim as it is after a while. @throws ClaimNotReadyError */
  readonly claimNow: () => Promise<UploadClaim>;
  /** The place, once it has been asked for. */
  opened?: OpenedUpload;
}

/** Finds uploads. */
export interface Whereabouts {
  /** Offset that the client of this request goes on from. @throws UploadError */
  offset(name: UploadName, request: TusRequest): Promise<number>;
  /** Has the session received, which ends another one that nobody sends to: only for a client whose bytes are there. */
  open(name: UploadName, request: TusRequest): Promise<OpenedUpload>;
}

/** Finds uploads by what this gateway remembers, then by their workflow. */
export function createWhereabouts(
  parts: Pick<GatewayParts, 'dataPortTls' | 'finishedSession' | 'locateUpload' | 'openUpload' | 'verdictMs'>,
  sessions: Sessions,
): Whereabouts {
  const { verdictMs = VERDICT_MS } = parts;

  async function offset(name: UploadName, request: TusRequest): Promise<number> {
    const { raw, claim } = request;
    if (raw.method === 'POST') return 0;
    if (claim.finished) return await finishedLength(name, claim);
    // its first byte is there
    if (raw.method === 'PATCH') return (await open(name, request)).offset;
    return await heard(name, request);
  }

  /** The last answer may have been lost on its way. @throws ClaimNotReadyError where the claim holds another upload's file */
  async function finishedLength({ session, length }: UploadName, claim: UploadClaim): Promise<number> {
    if ((await parts.finishedSession(claim)) === session) return length;
    throw new ClaimNotReadyError(`PVC ${claim.name} already finished uploading, by another upload`);
  }

  /**
   * The offset that a client goes on from; the whole length only when the disk is complete, since that is what a client takes it for.
   * @throws UploadError 423 while every byte has come and the disk is being judged
   */
  async function heard(name: UploadName, request: TusRequest): Promise<number> {
    const began = Date.now();
    let asked = false;
    let wait = LOOK_MS;
    for (;;) {
      if ((await sessions.verdictOf(name.session, verdictMs)) === 'complete') return name.length;
      const found = await locate(name, request);
      if (found?.complete) return name.length;
      if (found && found.offset < name.length) return found.offset;
      const claim = await request.claimNow();
      if (claim.finished) return await finishedLength(name, claim);
      if (found && !found.receiving && !asked && Date.now() - began >= NOBODY_MS) {
        asked = true;
        await askForVerdict(name, request);
        continue;
      }
      if (Date.now() - began + wait >= verdictMs) throw beingJudged();
      await pause(wait);
      // each look may be an Update of the workflow, which takes a limited number of them
      wait *= 2;
    }
  }

  /** Nobody waits for the node's answer to the last byte, or an attempt has ended behind it: then none begins without a client. */
  async function askForVerdict(name: UploadName, request: TusRequest): Promise<void> {
    const { session, length } = name;
    const opened = await open(name, request);
    if (opened.offset !== length) return;
    const nothing = { source: Readable.from([]), length: 0, limitBytes: 0, limitReason: '' };
    const judged = sendToDataPort(opened, nothing, parts.dataPortTls()).then(
      ({ complete }) => complete && sessions.complete(session),
      (error: unknown) => sessions.failed(session, error),
    );
    sessions.judging(
      session,
      judged.then(() => undefined),
    );
  }

  /** Where the session is, without a change to anybody's; undefined when the upload is over. */
  async function locate(
    name: UploadName,
    { claim, gone }: TusRequest,
  ): Promise<Omit<LocatedUpload, 'session'> | undefined> {
    const offset = await knownOffset(name.session);
    if (offset !== undefined) return { offset };
    try {
      return await parts.locateUpload(claim, askOf(name, claim), gone);
    } catch (error) {
      // complete, and being published; or failed, which the claim tells
      if (failureTypeIn(error) === ('ResourceExists' satisfies FailureType)) return undefined;
      throw error;
    }
  }

  /** Asked of the data port itself, where the session was opened through this gateway and still is. */
  async function knownOffset(session: string): Promise<number | undefined> {
    const url = sessions.placeOf(session);
    if (url === undefined) return undefined;
    try {
      return await readOffset({ url, session }, parts.dataPortTls());
    } catch {
      sessions.place(session, undefined);
      return undefined;
    }
  }

  async function open(name: UploadName, request: TusRequest): Promise<OpenedUpload> {
    const { claim, gone } = request;
    const { session } = name;
    const offset = await knownOffset(session);
    const url = sessions.placeOf(session);
    if (offset !== undefined && url !== undefined) return (request.opened = { url, session, offset });
    const opened = await parts.openUpload(claim, askOf(name, claim), gone);
    sessions.place(session, opened.url);
    return (request.opened = opened);
  }

  return { offset, open };
}

function askOf({ session, length, metadata }: UploadName, { contentType }: UploadClaim): UploadRequest {
  return {
    session,
    contentType,
    length,
    resumable: true,
    ...(metadata['checksum'] ? { checksum: metadata['checksum'] } : {}),
  };
}
