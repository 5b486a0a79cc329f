/** What tests of CDI's upload endpoints send, and what has come of it. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { PassThrough } from 'node:stream';
import { connect } from 'node:tls';
import type { TestGateway } from './support.js';

export const MIB = 1024 * 1024;
export const SYNC = '/v1beta1/upload';

/** What the one session that was opened holds. */
export async function uploaded(gateway: TestGateway): Promise<Buffer> {
  assert.equal(gateway.opened.length, 1);
  return await gateway.dataPort.content(gateway.opened[0]!.session);
}

/** A form with these parts. */
export function form(
  parts: readonly { readonly name: string; readonly content: Buffer; readonly file?: string }[],
) {
  const boundary = 'the-boundary';
  const pieces = parts.flatMap(({ name, content, file }) => {
    const fileName =
      file === undefined ? '' : `; filename="${file}"\r\nContent-Type: application/octet-stream`;
    return [
      Buffer.from(`--${boundary}\r\nContent-Disposition: form-data; name="${name}"${fileName}\r\n\r\n`),
      content,
      Buffer.from('\r\n'),
    ];
  });
  return {
    headers: { 'content-type': `multipart/form-data; boundary=${boundary}` },
    body: Buffer.concat([...pieces, Buffer.from(`--${boundary}--\r\n`)]),
  };
}

/** A connection on which a request's head was sent. */
export async function rawRequest(gateway: TestGateway, head: readonly string[]) {
  const socket = connect({ host: 'localhost', port: gateway.server.port, ca: gateway.authority.ca });
  await once(socket, 'secureConnect');
  let text = '';
  socket.on('data', (chunk: Buffer) => (text += chunk.toString()));
  socket.on('error', () => undefined);
  socket.write(`${head.join('\r\n')}\r\n\r\n`);
  return { socket, received: () => text };
}

/** Writes as fast as it is taken; ends after so many bytes. */
export async function fill(
  into: PassThrough,
  written: (bytes: number) => void = () => undefined,
  total = Number.POSITIVE_INFINITY,
): Promise<void> {
  const piece = Buffer.alloc(64 * 1024, 7);
  into.on('error', () => undefined);
  into.setMaxListeners(0);
  for (let done = 0; done < total && !into.destroyed; done += piece.length) {
    written(piece.length);
    if (!into.write(piece))
      await Promise.race([once(into, 'drain'), once(into, 'close')]).catch(() => undefined);
  }
  into.end();
}
