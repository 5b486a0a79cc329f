/** Routes of the aggregated API: discovery for everybody, tokens for whom kube-apiserver names. */
import type { IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';
import type { FastifyInstance, FastifyReply } from 'fastify';
import { ownVersion } from '../version.js';
import { API_GROUP, API_GROUP_LIST, openApi, resourceList, ROOT_PATHS } from './discovery.js';
import { frontProxyUser } from './front-proxy.js';
import { statusOf } from './api-status.js';
import type { GatewayParts } from './parts.js';
import {
  answerTokenRequest,
  UPLOAD_GROUP,
  UPLOAD_RESOURCE,
  UPLOAD_VERSIONS,
  type ApiAnswer,
  type TokenRequest,
} from './upload-token-requests.js';

/** A request for a token is a few hundred bytes. */
const MAX_BODY_BYTES = 256 * 1024;

/** Serves the API. */
export function addAggregatedApi(app: FastifyInstance, parts: GatewayParts): void {
  const openApiDocument = openApi(ownVersion());
  const documents: Readonly<Record<string, object>> = {
    '/apis': API_GROUP_LIST,
    [`/apis/${UPLOAD_GROUP}`]: API_GROUP,
    '/openapi/v2': openApiDocument,
    ...Object.fromEntries(
      UPLOAD_VERSIONS.map((version) => [`/apis/${UPLOAD_GROUP}/${version}`, resourceList(version)]),
    ),
  };
  for (const [path, document] of Object.entries(documents)) app.get(path, async () => document);
  app.get('/', async (request, reply) =>
    // people who come by a browser want the page
    request.headers.accept?.includes('text/html') ? reply.redirect('upload/') : ROOT_PATHS,
  );
  for (const version of UPLOAD_VERSIONS) {
    const path = `/apis/${UPLOAD_GROUP}/${version}/namespaces/:namespace/${UPLOAD_RESOURCE}`;
    app.post<{ Params: { namespace: string }; Querystring: { dryRun?: string; fieldValidation?: string } }>(
      path,
      async (request, reply) => {
        const { namespace } = request.params;
        const { fieldValidation } = request.query;
        const dryRun = request.query.dryRun !== undefined;
        const asked = { version, namespace, dryRun, fieldValidation };
        return send(reply, await createToken(parts, request.raw, asked));
      },
    );
    // kubectl apply asks for the object first, and stops at any answer but this
    app.get<{ Params: { name: string } }>(`${path}/:name`, async (request, reply) =>
      send(
        reply,
        statusOf('NotFound', `${UPLOAD_RESOURCE}.${UPLOAD_GROUP} "${request.params.name}" not found`),
      ),
    );
  }
}

async function createToken(
  parts: GatewayParts,
  raw: IncomingMessage,
  place: Omit<TokenRequest, 'user' | 'body'>,
): Promise<ApiAnswer> {
  const user = frontProxyUser(parts.frontProxy(), raw.socket as TLSSocket, raw.headersDistinct);
  if (!user) {
    return statusOf(
      'Unauthorized',
      'the request is not authenticated: ask kube-apiserver, which passes it on in the name of a user',
    );
  }
  const text = await readText(raw);
  if (text === undefined) return statusOf('BadRequest', `the body is larger than ${MAX_BODY_BYTES} bytes`);
  try {
    return await answerTokenRequest(parts, { ...place, user, body: parse(text) });
  } catch (error) {
    parts.logger.error('a request for an upload token failed', { error });
    const message = error instanceof Error ? error.message : String(error);
    return statusOf('InternalError', message);
  }
}

/** The body as text; undefined when it is too large. */
async function readText(raw: IncomingMessage): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of raw) {
    bytes += (chunk as Buffer).length;
    if (bytes <= MAX_BODY_BYTES) chunks.push(chunk as Buffer);
  }
  return bytes <= MAX_BODY_BYTES ? Buffer.concat(chunks).toString() : undefined;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function send(reply: FastifyReply, { code, body }: ApiAnswer): FastifyReply {
  return reply.code(code).send(body);
}
