/** The receiving side of an upload as a node worker has it: a reserved directory, a real data port, and clients with certificates. */
import { randomUUID } from 'node:crypto';
import { createReadStream, statSync } from 'node:fs';
import { request as httpsRequest, type RequestOptions } from 'node:https';
import { PassThrough, type Readable } from 'node:stream';
import type { Info } from '@temporalio/activity';
import { MockActivityEnvironment } from '@temporalio/testing';
import { UploadDesk } from '../../../activities/image/upload/desk.js';
import type { FeedLimits } from '../../../activities/image/upload/feed.js';
import { createLocateActivities } from '../../../activities/image/upload/locate.js';
import { createReceiveActivities } from '../../../activities/image/upload/receive.js';
import type { ReceiveInput, Reception, UploadRequest } from '../../../activities/types/upload.js';
import type { TransferProgress } from '../../../activities/types.js';
import { send, startLoopbackPort, type Answer, type LoopbackPort } from '../../workers/data-port-client.js';
import { reserve, USER } from '../support/transfer.js';

/** A data port for a suite. */
export function useDataPort() {
  let served: LoopbackPort | undefined;
  before(async () => {
    served = await startLoopbackPort(5_000);
  });
  after(() => served?.[Symbol.asyncDispose]());
  return {
    port: () => (served ?? assertStarted()).port,
    client: () => (served ?? assertStarted()).client('dvflow-gateway'),
  };
}

function assertStarted(): never {
  throw new Error('the data port is used outside of tests');
}

/** A volume to upload into. */
export async function makeTarget(
  root: string,
  bytes: number,
  { port, client }: ReturnType<typeof useDataPort>,
  limits: FeedLimits = {},
  childPath?: string,
) {
  const desk = new UploadDesk();
  const { input, node, ...paths } = await reserve(root, { url: 'http://127.0.0.1:1/' }, bytes);
  const { target, claim } = input;
  const dependencies = { node: 'here', dataPort: port(), desk, transferUser: USER, limits, childPath };
  const receiver = createReceiveActivities(dependencies);
  const locator = createLocateActivities({
    dataPort: port(),
    desk,
    stateDirectory: '/var/lib/dvflow-unused',
  });

  function receive(request: UploadRequest, more: Partial<ReceiveInput> = {}, info: Partial<Info> = {}) {
    const environment = new MockActivityEnvironment(info);
    const beats: TransferProgress[] = [];
    environment.on('heartbeat', (details: unknown) => beats.push(details as TransferProgress));
    const whole = { target, request, usableBytes: bytes, claim, preallocation: false, ...more };
    const done = environment.run<[], Reception, () => Promise<Reception>>(() =>
      receiver.receiveUpload(whole),
    );
    done.catch(() => undefined);
    return { done, beats, cancel: () => environment.cancel() };
  }
  const locate = (request: UploadRequest) => locator.locateUpload({ target, request });
  const dismiss = (type: string, message: string, more: { retryable?: boolean; session?: string } = {}) =>
    locator.dismissUpload({ target, type, message, ...more });

  /** Sends a body, or a part of a file, to the session. */
  async function put(
    request: UploadRequest,
    body: Buffer | Readable,
    { offset = 0, length }: { offset?: number; length?: number } = {},
  ): Promise<Answer> {
    const { url } = await locate(request);
    const headers = {
      'upload-offset': `${offset}`,
      ...(length === undefined ? {} : { 'content-length': `${length}` }),
    };
    return await send(`${url}?session=${request.session}`, { ...client(), method: 'PUT', headers }, body);
  }

  /** The whole file in one request, from an offset on. */
  async function putFile(request: UploadRequest, path: string, offset = 0): Promise<Answer> {
    const length = statSync(path).size - offset;
    return await put(request, createReadStream(path, { start: offset }), { offset, length });
  }

  return { ...paths, input, node, claim, target, receive, locate, put, putFile, client, dismiss };
}

/** A request for a session of its own. */
export function session(more: Partial<UploadRequest> = {}): UploadRequest {
  return { session: randomUUID(), contentType: 'kubevirt', ...more };
}

/** A body that is sent piece by piece, and may be broken off. */
export function openBody(url: string, options: RequestOptions, headers: Record<string, string> = {}) {
  const sent = httpsRequest(url, { ...options, method: 'PUT', headers });
  const answered = new Promise<number>((resolve, reject) => {
    sent.on('response', (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    sent.on('error', reject);
  });
  answered.catch(() => undefined);
  return {
    answered,
    write: (piece: Buffer) =>
      new Promise<void>((resolve, reject) =>
        sent.write(piece, (error) => (error ? reject(error) : resolve())),
      ),
    end: () => sent.end(),
    vanish: () => sent.destroy(),
  };
}

/** A body that comes slowly: so many pieces, with a pause before each. */
export function slowly(content: Buffer, pieces: number, pauseMs: number): Readable {
  const body = new PassThrough();
  const size = Math.ceil(content.length / pieces);
  let at = 0;
  const timer = setInterval(() => {
    if (at < content.length) return void body.write(content.subarray(at, (at += size)));
    clearInterval(timer);
    body.end();
  }, pauseMs);
  return body;
}
