/** Where tus keeps its uploads: nowhere here. Offsets are those that the node's disk has durably, bytes go straight to its data port. */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import { DataStore, Upload } from '@tus/server';
import type { OpenedUpload } from '../../../activities/types/upload.js';
import { byteLimit } from '../byte-limit.js';
import { sendToDataPort, type DataPortBody } from '../data-port.js';
import type { GatewayParts } from '../parts.js';
import { countReceived } from '../received-bytes.js';
import { assertKept, type UploadClaim } from '../upload-claims.js';
import { Sessions } from './sessions.js';
import { requireName, type UploadName } from './upload-id.js';
import { createWhereabouts, VERDICT_MS, type TusRequest, type Whereabouts } from './whereabouts.js';

/** An upload is forgotten so long after it was made, in ms; its lifecycle gives up earlier when nothing comes. */
export const EXPIRES_MS = 7 * 86_400_000;

/** The request under way: the protocol's library hands on streams and names only. */
export const tusRequest = new AsyncLocalStorage<TusRequest>();

/** A {@link DataStore} of `@tus/server` whose disk is on a node. */
export class DataPortStore extends DataStore {
  private readonly sessions = new Sessions();
  private readonly whereabouts: Whereabouts;
  private readonly parts: GatewayParts;

  constructor(parts: GatewayParts) {
    super();
    this.parts = parts;
    this.whereabouts = createWhereabouts(parts, this.sessions);
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
    const offset = await this.whereabouts.offset(name, request);
    const creation_date = new Date(created).toISOString();
    return new Upload({ id, size: length, offset, metadata: { ...metadata }, creation_date });
  }

  /**
   * Waits while the node judges a file whose last byte has come through this gateway.
   * @throws UploadError the reason, where the file cannot be the disk; 423 where it is not known in time
   */
  async awaitVerdict(id: string, claim: UploadClaim): Promise<void> {
    const { session } = requireName(id, claim);
    await this.sessions.verdictOf(session, this.parts.verdictMs ?? VERDICT_MS);
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
    const { slots, metrics } = this.parts;
    const giveBack = slots.take();
    const received = countReceived(metrics);
    const judged = Promise.withResolvers<void>();
    this.sessions.begin(name.session);
    try {
      const body = this.bodyOf(stream, request, (moved, taken) => {
        received.add(moved);
        if (offset + taken >= name.length) this.sessions.judging(name.session, judged.promise);
      });
      const opened = request.opened ?? (await this.whereabouts.open(name, request));
      return await this.send(name, { ...opened, offset }, body);
    } catch (error) {
      this.sessions.failed(name.session, error);
      throw error;
    } finally {
      judged.resolve();
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

  private bodyOf(
    source: Readable,
    { raw, claim }: TusRequest,
    moved: (bytes: number, taken: number) => void,
  ): DataPortBody {
    const length = lengthOf(raw);
    let taken = 0;
    return {
      source,
      ...(length === undefined ? {} : { length }),
      ...byteLimit(claim),
      onBytes: (bytes) => moved(bytes, (taken += bytes)),
      isWhole: () => raw.complete && (length === undefined || taken === length),
    };
  }

  private async send(name: UploadName, place: OpenedUpload, body: DataPortBody): Promise<number> {
    const answer = await sendToDataPort(place, body, this.parts.dataPortTls());
    if (!answer.complete) return answer.offset;
    const { claim: filled } = currentRequest();
    await assertKept(this.parts.kubernetes, filled);
    this.sessions.complete(name.session);
    const { namespace, name: claim } = filled;
    this.parts.logger.info('resumable upload complete', { namespace, name: claim, ...answer });
    return name.length;
  }
}

function currentRequest(): TusRequest {
  const request = tusRequest.getStore();
  if (!request) throw new Error('the store is used outside of a request');
  return request;
}

function lengthOf({ headers }: IncomingMessage): number | undefined {
  const text = headers['content-length'];
  return text === undefined ? undefined : Number(text);
}
