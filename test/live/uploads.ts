/** Clients of uploads, as the gateway is one: the Update that opens, then the body over the data port with its certificate. */
import { randomUUID } from 'node:crypto';
import { createReadStream, statSync } from 'node:fs';
import { request as httpsRequest, type RequestOptions } from 'node:https';
import { join } from 'node:path';
import { Transform, type Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { dataPortClientOptions } from '../../activities/data-port/tls.js';
import type { OpenedUpload, UploadRequest } from '../../activities/types/upload.js';
import { openUploadUpdate } from '../../workflows/messages.js';
import { peerDirectory } from '../../workers/pki/directory.js';
import type { TestStack } from '../support/stack.js';
import { send, type Answer } from '../workers/data-port-client.js';
import type { DataVolume, World } from './world.js';

const PLURAL = { group: 'cdi.kubevirt.io', version: 'v1beta1', plural: 'datavolumes' } as const;
const MiB = 1 << 20;

/** Id of the run that the watch starts for a DataVolume. */
export function workflowOf({ metadata: { namespace, name, uid } }: DataVolume): string {
  return `datavolume/${namespace}/${name}/${uid}`;
}

/** What tests of uploads do. */
export function createUploads(stack: TestStack, world: World) {
  const options = (): RequestOptions => ({
    ...dataPortClientOptions(peerDirectory(join(stack.info.directory, 'pki', 'data-port'), 'dvflow-gateway')),
    agent: false,
  });

  async function create(
    namespace: string,
    name: string,
    spec: object = {},
    annotations: Record<string, string | undefined> = {},
  ): Promise<DataVolume> {
    const body = {
      apiVersion: 'cdi.kubevirt.io/v1beta1',
      kind: 'DataVolume',
      metadata: {
        name,
        namespace,
        annotations: { 'cdi.kubevirt.io/storage.bind.immediate.requested': '', ...annotations },
      },
      spec: {
        source: { upload: {} },
        storage: { resources: { requests: { storage: '64Mi' } }, storageClassName: 'hostpath-provisioner' },
        ...spec,
      },
    };
    return (await world.custom.createNamespacedCustomObject({ ...PLURAL, namespace, body })) as DataVolume;
  }

  /** A token for the claim of this name, as an administrator asks for one. */
  async function token(namespace: string, name: string): Promise<string> {
    const input = JSON.stringify({
      apiVersion: 'upload.cdi.kubevirt.io/v1beta1',
      kind: 'UploadTokenRequest',
      metadata: { name, namespace },
      spec: { pvcName: name },
    });
    return await stack.kubectl(['create', '-f', '-', '-o', 'jsonpath={.status.token}'], { input });
  }

  async function open(workflowId: string, request: UploadRequest): Promise<OpenedUpload> {
    return await stack.temporal.workflow
      .getHandle(workflowId)
      .executeUpdate(openUploadUpdate, { args: [request] });
  }

  /** Sends a file from where the run wants it. */
  async function sendFile(
    workflowId: string,
    path: string,
    more: Partial<UploadRequest> = {},
  ): Promise<Answer> {
    const { size } = statSync(path);
    const request: UploadRequest = {
      session: randomUUID(),
      contentType: 'kubevirt',
      length: size,
      ...more,
    };
    const { url, offset } = await open(workflowId, request);
    return await put(
      url,
      { session: request.session, offset, length: size - offset },
      createReadStream(path, { start: offset }),
    );
  }

  async function put(
    url: string,
    { session, offset = 0, length }: { session: string; offset?: number; length?: number },
    body: Buffer | Readable,
  ): Promise<Answer> {
    const headers = {
      'upload-offset': `${offset}`,
      ...(length === undefined ? {} : { 'content-length': `${length}` }),
    };
    return await send(`${url}?session=${session}`, { ...options(), method: 'PUT', headers }, body);
  }

  /** Begins to send a file, no faster than told; the connection can be broken off. */
  async function beginFile(
    workflowId: string,
    path: string,
    { bytesPerSecond, ...more }: Partial<UploadRequest> & { bytesPerSecond: number },
  ) {
    const { size } = statSync(path);
    const request: UploadRequest = {
      session: randomUUID(),
      contentType: 'kubevirt',
      length: size,
      ...more,
    };
    const { url, offset } = await open(workflowId, request);
    const headers = { 'upload-offset': `${offset}`, 'content-length': `${size - offset}` };
    const sent = httpsRequest(`${url}?session=${request.session}`, { ...options(), method: 'PUT', headers });
    let bytes = 0;
    let rate = bytesPerSecond;
    const throttle = new Transform({
      highWaterMark: 64 * 1024,
      transform(piece: Buffer, _, done) {
        bytes += piece.length;
        void pause((piece.length / rate) * 1000).then(() => done(undefined, piece));
      },
    });
    const answered = new Promise<Answer>((resolve, reject) => {
      sent.on('error', reject);
      sent.on('response', (response) => {
        const pieces: Buffer[] = [];
        response.on('data', (piece: Buffer) => pieces.push(piece));
        response.on('error', reject);
        response.on('end', () => {
          const { statusCode: status = 0, headers: told } = response;
          resolve({ status, headers: told, text: Buffer.concat(pieces).toString() });
        });
      });
    });
    answered.catch(() => undefined);
    pipeline(createReadStream(path, { start: offset }), throttle, sent).catch(() => undefined);
    return {
      request,
      answered,
      bytesSent: () => bytes,
      hurry: () => (rate = 1024 * MiB),
      vanish: () => sent.destroy(),
    };
  }

  return { create, token, open, put, sendFile, beginFile };
}

export type Uploads = ReturnType<typeof createUploads>;
