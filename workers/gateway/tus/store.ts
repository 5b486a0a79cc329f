/** Where tus keeps its uploads: nowhere here. Offsets are those that the node's disk has durably, bytes go straight to its data port. */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import { DataStore, Upload } from '@tus/server';
import type { OpenedUpload, UploadRequest } from '../../../activities/types/upload.js';
import { byteLimit } from '../byte-limit.js';
import { sendToDataPort } from '../data-port.js';
import type { GatewayParts } from '../parts.js';
import { countReceived } from '../received-bytes.js';
import { ClaimNotReadyError, type UploadClaim } from '../upload-claims.js';
import { UploadError } from '../upload-failures.js';
import { readUploadName, type UploadName } from './upload-id.js';

/** An upload is forgotten so long after it was made, in ms; its lifecycle gives up earlier when nothing comes. */
export const EXPIRES_MS = 7 * 86_400_000;

/** What one request of the protocol is about. */
export interface TusRequest {
  readonly raw: IncomingMessage;
  /** Claim of the request's token. */
  readonly claim: UploadClaim;
  readonly gone: AbortSignal;
  /** The place, once it has been asked for. */
  opened?: OpenedUpload;
}

/** The request under way: the protocol's library hands on streams and names only. */
export const tusRequest = new AsyncLocalStorage<TusRequest>();

/** A {@link DataStore} of `@tus/server` whose disk is on a node. */
export class DataPortStore extends DataStore {
  constructor(private readonly parts: GatewayParts) {
    super();
    this.extensions = ['creation', 'expiration'];
  }

  override async create(upload: Upload): Promise<Upload> {
    return upload;
  }

  /** How far the upload is: asked of the node, except for one that is being made. @throws UploadError */
  override async getUpload(id: string): Promise<Upload> {
    const request = currentRequest();
    const name = requireName(id, request.claim);
    const { length, created, metadata } = name;
    const { complete, offset } = await this.placeOf(name, request);
    const creation_date = new Date(created).toISOString();
    return new Upload({
      id,
      size: length,
      offset: complete ? length : offset,
      metadata: { ...metadata },
      creation_date,
    });
  }

  /**
   * Moves a body to the node. The library shows a broken connection as an ordinary end: whether the body has come as a whole is asked
   * of the request itself.
   * @returns the offset from which the client goes on: what is durable, whatever has been read
   * @throws UploadError
   */
  override async write(stream: Readable, id: string, offset: number): Promise<number> {
    const request = currentRequest();
    const name = requireName(id, request.claim);
    const { slots, dataPortTls, metrics, logger } = this.parts;
    const giveBack = slots.take();
    const received = countReceived(metrics);
    try {
      const { raw, claim } = request;
      const opened = request.opened ?? (await this.open(name, request));
      const length = lengthOf(raw);
      let taken = 0;
      const answer = await sendToDataPort(
        { ...opened, offset },
        {
          source: stream,
          ...(length === undefined ? {} : { length }),
          ...byteLimit(claim),
          onBytes: (bytes) => {
            taken += bytes;
            received.add(bytes);
          },
          isWhole: () => raw.complete && (length === undefined || taken === length),
        },
        dataPortTls(),
      );
      if (!answer.complete) return answer.offset;
      const { namespace, name: claimName } = claim;
      logger.info('resumable upload complete', { namespace, name: claimName, ...answer });
      return name.length;
    } finally {
      received.end();
      giveBack();
    }
  }

  override getExpiration(): number {
    return EXPIRES_MS;
  }

  /** Their lifecycle ends those that nobody goes on with. */
  override async deleteExpired(): Promise<number> {
    return 0;
  }

  private async placeOf(
    name: UploadName,
    request: TusRequest,
  ): Promise<Pick<OpenedUpload, 'complete' | 'offset'>> {
    const { claim, raw } = request;
    if (raw.method === 'POST') return { offset: 0 };
    if (!claim.finished) return await this.open(name, request);
    // the last answer may have been lost on its way
    if ((await this.parts.finishedSession(claim)) === name.session) return { complete: true, offset: 0 };
    throw new ClaimNotReadyError(`PVC ${claim.name} already finished uploading, by another upload`);
  }

  private async open(name: UploadName, request: TusRequest): Promise<OpenedUpload> {
    const { claim, gone } = request;
    const { session, length, metadata } = name;
    const asked: UploadRequest = {
      session,
      contentType: claim.contentType,
      length,
      resumable: true,
      ...(metadata['checksum'] ? { checksum: metadata['checksum'] } : {}),
    };
    return (request.opened = await this.parts.openUpload(claim, asked, gone));
  }
}

function currentRequest(): TusRequest {
  const request = tusRequest.getStore();
  if (!request) throw new Error('the store is used outside of a request');
  return request;
}

/** @throws UploadError 404 for a name that is none, or of another claim than the token's */
function requireName(id: string, { uid }: UploadClaim): UploadName {
  const name = readUploadName(id);
  if (!name || name.claimUid !== uid)
    throw new UploadError(404, 'there is no such upload for the claim of this token');
  return name;
}

function lengthOf({ headers }: IncomingMessage): number | undefined {
  const text = headers['content-length'];
  return text === undefined ? undefined : Number(text);
}
