import type { IncomingHttpHeaders } from 'node:http';
import { permanentFailure } from '../../failures.js';
import { displayUrl, withoutUserInfo } from '../source/display-url.js';
import { busy, isTransientStatus, statusFailure, statusText, unavailable } from '../source/http-failures.js';
import { http } from '../source/node-http.js';
import { persistently } from '../source/reconnects.js';
import type { Session } from '../source/session.js';
import { requestSmall, type SmallAnswer } from '../source/small-request.js';
import { parseChallenges, type Challenge } from './challenges.js';
import type { Credentials, IdentityToken, Login } from './credentials.js';
import { fetchDocument, type FetchedDocument } from './documents.js';
import { asText, parseRecord } from './json.js';

/** Longest answer of a token server, in bytes. */
const TOKEN_LIMIT = 1024 * 1024;
/** Least life of a token where its server names a shorter one or none (Docker's token specification), in ms. */
const LEAST_LIFE_MS = 60_000;
/** A token that ends so soon is not used for another request, in ms. */
const MARGIN_MS = 10_000;
/** What is answered to an identity token that has ended; others (404, 405) mean that the server knows no such POST. */
const ENDED = new Set([400, 401, 403]);

/** What opens the door of one registry for one repository. */
export interface Authorization {
  /**
   * Headers for the next request to the registry; a token is asked for where one is needed and none is good.
   * @throws what the token server's answers mean
   */
  headers(): Promise<Record<string, string>>;
  /**
   * Takes the challenge of a 401, if the answer is at hand; what was sent before is not sent again.
   * @returns whether another try has something else to show
   */
  refused(answer?: Pick<FetchedDocument, 'headers' | 'foreign'>): boolean;
}

/** Whom an authorization is for. */
export interface AuthorizationParts {
  readonly session: Session;
  /** The registry's own address. */
  readonly base: URL;
  readonly repository: string;
  readonly credentials: Credentials | undefined;
  /** Tokens may be asked for without TLS although the registry has it. */
  readonly insecure: boolean;
}

interface Token {
  readonly value: string;
  /** ms since the epoch. */
  readonly usableUntil: number;
}

/**
 * Answers a registry's challenges: `Basic`, or `Bearer` with a token that is kept until it ends. A challenge that came from
 * another origin than the registry's, by a redirect, never gets the credentials.
 */
export function createAuthorization(parts: AuthorizationParts): Authorization {
  const { credentials } = parts;
  let challenge: Challenge | undefined;
  let trusted = false;
  let token: Promise<Token> | undefined;

  async function bearer(wanted: Challenge): Promise<string> {
    let current = await (token ??= request(wanted));
    if (current.usableUntil < Date.now()) current = await (token = request(wanted));
    return current.value;
  }

  function request(wanted: Challenge): Promise<Token> {
    const asked = requestToken(parts, wanted, trusted ? credentials : undefined);
    // a token server that failed is asked anew
    asked.catch(() => {
      if (token === asked) token = undefined;
    });
    return asked;
  }

  return {
    async headers(): Promise<Record<string, string>> {
      if (challenge?.scheme === 'bearer') return { authorization: `Bearer ${await bearer(challenge)}` };
      if (challenge?.scheme === 'basic' && trusted && credentials && 'password' in credentials)
        return { authorization: basic(credentials) };
      return {};
    },
    refused(answer) {
      const before = challenge;
      token = undefined;
      const found = answer && choose(answer.headers);
      if (found) {
        challenge = found;
        trusted = !answer.foreign;
      }
      return challenge?.scheme === 'bearer' || challenge?.scheme !== before?.scheme;
    },
  };
}

/** Tokens before passwords; of two of a kind the first. */
function choose(headers: IncomingHttpHeaders): Challenge | undefined {
  const challenges = parseChallenges(headers['www-authenticate']);
  return (
    challenges.find(({ scheme, parameters }) => scheme === 'bearer' && parameters.has('realm')) ??
    challenges.find(({ scheme }) => scheme === 'basic')
  );
}

async function requestToken(
  parts: AuthorizationParts,
  { parameters }: Challenge,
  credentials: Credentials | undefined,
): Promise<Token> {
  const realm = realmOf(parts, parameters.get('realm') ?? '');
  const display = displayUrl(realm);
  const service = parameters.get('service');
  const asked = { ...(service ? { service } : {}), scope: `repository:${parts.repository}:pull` };
  const session = { ...parts.session, display };
  const answer =
    credentials && 'identityToken' in credentials
      ? await exchange(session, realm, { ...asked, ...credentials })
      : await ask(session, realm, asked, credentials);
  return parseToken(answer, display);
}

/** `GET realm?service=…&scope=repository:…:pull` (Docker's token specification). */
async function ask(
  session: Session,
  realm: URL,
  asked: Readonly<Record<string, string>>,
  login: Login | undefined,
): Promise<Buffer> {
  const url = new URL(realm);
  for (const [name, value] of Object.entries(asked)) url.searchParams.set(name, value);
  if (login) url.searchParams.set('account', login.username);
  const document = await fetchDocument(session, {
    entrance: { url, headers: login ? { authorization: basic(login) } : {} },
    own: { accept: 'application/json' },
    limit: TOKEN_LIMIT,
  });
  if (document.status !== 200) throw statusFailure(document, session.display);
  return document.bytes;
}

/**
 * `POST realm` with the identity token as OAuth2's refresh token (Docker's specification "Authenticate with the registry via
 * OAuth2"). Redirects are not followed: the token is for the asked server only.
 */
async function exchange(
  session: Session,
  realm: URL,
  { identityToken, ...asked }: IdentityToken & Readonly<Record<string, string>>,
): Promise<string> {
  const { agents, signal, stallMs, display } = session;
  const form = { grant_type: 'refresh_token', client_id: 'dvflow', ...asked, refresh_token: identityToken };
  return await persistently(session, async () => {
    const answer = await requestSmall(
      { agents, signal, timeoutMs: stallMs },
      {
        url: realm,
        method: 'POST',
        headers: { 'content-type': 'application/x-www-form-urlencoded', accept: 'application/json' },
        body: new URLSearchParams(form).toString(),
        display,
      },
    );
    if (answer.status !== 200) throw exchangeFailure(answer, display);
    return answer.text;
  });
}

function exchangeFailure(answer: SmallAnswer, display: string): Error {
  const { status } = answer;
  const message = `POST ${display}: ${statusText(status)} for the identity token of a login`;
  if (isTransientStatus(status)) return busy(answer, message);
  const why = ENDED.has(status) ? 'it may have ended: log in again' : 'this token server takes none';
  return permanentFailure('SourceForbidden', `${message}: ${why}, or use a user name and a password`);
}

/** Where the registry sends for tokens; not out of TLS, where a password could be read on its way. */
function realmOf({ base, session, insecure }: AuthorizationParts, text: string): URL {
  const realm = URL.parse(text);
  if (!realm || (realm.protocol !== 'https:' && realm.protocol !== 'http:'))
    throw unavailable(session.display, 'the registry names a token server that is no http or https URL');
  if (realm.protocol === 'http:' && base.protocol === 'https:' && !insecure)
    throw permanentFailure(
      'SourceNotAllowed',
      `GET ${session.display}: the registry sends for tokens to ${displayUrl(realm)}, which is not protected by TLS`,
    );
  return withoutUserInfo(realm);
}

function parseToken(bytes: Buffer | string, display: string): Token {
  const answer = parseRecord(bytes);
  const value = asText(answer?.['token']) || asText(answer?.['access_token']);
  if (!value || !isHeaderValue(value)) throw unavailable(display, 'the answer holds no token');
  const seconds = Number(answer?.['expires_in'] ?? 0);
  const life = Math.max(Number.isFinite(seconds) ? seconds * 1000 : 0, LEAST_LIFE_MS);
  return { value, usableUntil: Date.now() + life - MARGIN_MS };
}

function isHeaderValue(value: string): boolean {
  try {
    http.validateHeaderValue('authorization', value);
    return true;
  } catch {
    return false;
  }
}

function basic({ username, password }: Login): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}
