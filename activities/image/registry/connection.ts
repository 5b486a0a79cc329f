import { failureTypeOf } from '../../failures.js';
import { statusFailure } from '../source/http-failures.js';
import { persistently } from '../source/reconnects.js';
import type { Session } from '../source/session.js';
import { createAuthorization, type Authorization } from './authorization.js';
import type { Credentials } from './credentials.js';
import { fetchDocument, fetchOnce, type FetchedDocument } from './documents.js';
import type { DockerReference } from './reference.js';

/** `/v2/` answers a few bytes, if any. */
const PING_LIMIT = 64 * 1024;
/** Times that one request is sent with another authorization. */
const MOST_AUTHORIZATIONS = 2;

/** A registry that has answered. */
export interface Connection {
  /** `https://host/v2/`, or without TLS where that was found. */
  readonly base: URL;
  readonly authorization: Authorization;
}

/** Whom to connect to, and as whom. */
export interface ConnectionParts {
  readonly session: Session;
  readonly reference: DockerReference;
  readonly credentials: Credentials | undefined;
  readonly insecure: boolean;
}

/**
 * Finds out how a registry is reached and what it wants, by `GET /v2/`. Without TLS only where the operator says so, and then
 * only where TLS is not spoken: as containers/image does.
 *
 * @throws the failures of `http-failures.ts`
 */
export async function connect(parts: ConnectionParts): Promise<Connection> {
  const { session, reference, insecure, credentials } = parts;
  const { repository } = reference;
  return await persistently(session, async () => {
    const { base, answer } = await ping(parts);
    if (answer.status !== 200 && answer.status !== 401) throw statusFailure(answer, session.display);
    const authorization = createAuthorization({ session, base, repository, credentials, insecure });
    if (answer.status === 401) authorization.refused(answer);
    return { base, authorization };
  });
}

async function ping(parts: ConnectionParts): Promise<{ base: URL; answer: FetchedDocument }> {
  const { session, reference, insecure } = parts;
  const secure = new URL(`https://${reference.host}/v2/`);
  try {
    return { base: secure, answer: await askAt(session, secure) };
  } catch (error) {
    session.signal.throwIfAborted();
    if (!insecure || failureTypeOf(error) !== 'SourceUnavailable') throw error;
    const plain = new URL(`http://${reference.host}/v2/`);
    const answer = await askAt(session, plain);
    session.notice(`registry ${reference.host} does not speak TLS: it is asked by plain HTTP`);
    return { base: plain, answer };
  }
}

async function askAt(session: Session, url: URL): Promise<FetchedDocument> {
  return await fetchOnce(session, { entrance: { url, headers: {} }, own: {}, limit: PING_LIMIT });
}

/** What is asked of the registry; `path` is relative to its base. */
export interface RegistryAsk {
  readonly path: string;
  readonly own: Readonly<Record<string, string>>;
  /** In bytes. */
  readonly limit: number;
}

/**
 * Reads a document with the authorization that the registry wants, which a 401 may tell only now.
 * @throws what {@link fetchDocument} throws; {@link FailureType} `SourceForbidden`
 */
export async function fetchAuthorized(
  session: Session,
  { base, authorization }: Connection,
  { path, own, limit }: RegistryAsk,
): Promise<FetchedDocument> {
  const url = new URL(path, base);
  for (let tries = 0; ; tries += 1) {
    const headers = await authorization.headers();
    const answer = await fetchDocument(session, { entrance: { url, headers }, own, limit });
    if (answer.status !== 401) return answer;
    if (tries === MOST_AUTHORIZATIONS || !authorization.refused(answer))
      throw statusFailure(answer, session.display);
  }
}
