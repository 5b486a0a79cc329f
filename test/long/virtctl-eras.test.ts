import assert from 'node:assert/strict';
import { createPrivateKey } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { basename } from 'node:path';
import { finished } from 'node:stream/promises';
import { decodeJwt, SignJWT } from 'jose';
import { OWN_NAMESPACE } from '../../activities/kubernetes/names.js';
import { SIGNING_KEYS_SECRET } from '../../workers/gateway/signing-keys.js';
import { CLASS, describeUploads, useVirtctl } from '../live/virtctl-scene.js';
import { startServer, type RunningServer } from '../support/servers/index.js';
import { useStack } from '../support/stack.js';
import { OTHER_VIRTCTL_VERSIONS, type Ended } from '../support/virtctl.js';

/** A proxy before the gateway, and what went through it: `POST upload 401 token 1, expired`. */
interface Ageing {
  readonly url: string;
  readonly passed: readonly string[];
}

describe('virtctl image-upload of other eras, unmodified', function () {
  this.timeout(180_000);
  const stack = useStack();
  const scene = useVirtctl(stack, OTHER_VIRTCTL_VERSIONS);
  const servers: RunningServer[] = [];

  after(() => Promise.all(servers.map((server) => server.close())));

  for (const version of OTHER_VIRTCTL_VERSIONS) describeUploads(scene, version);

  it('of v1.9 asks for another token when the first one expires before a further attempt', async () => {
    const { url, passed } = await startAgeing({ lost: 1 });
    const ended = await upload('expired', url);
    await scene.assertDone(ended, 'expired');
    assert.deepEqual(passed, [
      'HEAD upload-async 200 token 1',
      'POST upload-async 502 token 1',
      // whatever virtctl is told there, it takes for a proxy without asynchronous uploads
      'HEAD upload-async 401 token 1, expired',
      'POST upload 401 token 1, expired',
      'HEAD upload-async 200 token 2',
      'POST upload-async 200 token 2',
    ]);
  });

  it('of v1.9 says why the gateway refuses a first attempt, and the next command is taken', async () => {
    const { url, passed } = await startAgeing({ lost: 0 });
    const refused = await upload('refused', url);
    assert.equal(refused.code, 1, refused.output);
    assert.match(
      refused.output,
      /authentication failed: unexpected return value 401, the upload token has expired/,
    );
    assert.deepEqual(passed, ['HEAD upload-async 401 token 1, expired', 'POST upload 401 token 1, expired']);
    await scene.assertDone(await upload('refused'), 'refused');
  });

  async function upload(name: string, proxyUrl?: string): Promise<Ended> {
    const image = `--image-path=${await scene.images.as('qcow2')}`;
    const args = ['dv', name, '--size=64Mi', `--storage-class=${CLASS}`, image];
    const by = proxyUrl === undefined ? [] : [`--uploadproxy-url=${proxyUrl}`];
    return await scene.upload('v1.9.0', ...args, ...by);
  }

  /** A proxy that loses the first so many bodies, after which five minutes have passed: the first token reaches the gateway as expired. */
  async function startAgeing({ lost }: { readonly lost: number }): Promise<Ageing> {
    const passed: string[] = [];
    const tokens: string[] = [];
    let losing = lost;
    const server = await startServer(async (request, response) => {
      const token = request.headers.authorization?.replace('Bearer ', '') ?? '';
      if (!tokens.includes(token)) tokens.push(token);
      const number = tokens.indexOf(token) + 1;
      const old = number === 1 && losing === 0;
      response.on('finish', () => {
        const what = `${request.method} ${basename(request.url ?? '')} ${response.statusCode}`;
        passed.push(`${what} token ${number}${old ? ', expired' : ''}`);
      });
      if (losing > 0 && request.method === 'POST') {
        losing -= 1;
        await finished(request.resume());
        response.writeHead(502).end();
      } else {
        passOn(request, response, `Bearer ${old ? await expire(token) : token}`);
      }
    });
    servers.push(server);
    return { url: server.url, passed };
  }

  function passOn(request: IncomingMessage, response: ServerResponse, authorization: string): void {
    const onward = httpsRequest(`https://127.0.0.1:${stack.info.ports.gateway}${request.url}`, {
      method: request.method,
      headers: { ...request.headers, authorization },
      rejectUnauthorized: false,
    });
    onward.on('response', (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    // a refusal comes before the end of the body, whose rest nobody takes then
    onward.on('error', () => response.headersSent || response.destroy());
    request.pipe(onward);
  }

  /** The same token, made by the gateway's own key a while ago. */
  async function expire(token: string): Promise<string> {
    const secret = { namespace: OWN_NAMESPACE, name: SIGNING_KEYS_SECRET };
    const { data } = await scene.world.core.readNamespacedSecret(secret);
    const key = createPrivateKey(Buffer.from(data?.['current.pem'] ?? '', 'base64'));
    const expires = Math.floor(Date.now() / 1000) - 60;
    return await new SignJWT({ ...decodeJwt(token), exp: expires })
      .setProtectedHeader({ alg: 'PS256' })
      .sign(key);
  }
});
