import { permanentFailure } from '../../failures.js';
import { withoutEnd } from '../../without-end.js';
import type { RegistryRequest } from '../source/types.js';
import { asRecord, asText, parseRecord } from './json.js';
import { canonicalDomain, type DockerReference } from './reference.js';

/** What a registry knows a user by. */
export type Credentials = Login | IdentityToken;

/** A user name and a password. */
export interface Login {
  readonly username: string;
  readonly password: string;
}

/** What a login left instead of a password; only a token server takes it. */
export interface IdentityToken {
  readonly identityToken: string;
}

/**
 * Credentials for an image: user name and password when both are there (CDI's rule), else the entry of the `.dockerconfigjson`
 * that names the longest part of its address, else none.
 *
 * @throws {@link FailureType} `InvalidDataVolume` for a `.dockerconfigjson` that cannot be read, without any of its content
 */
export function credentialsFor(
  request: Pick<RegistryRequest, 'username' | 'password' | 'dockerConfig'>,
  reference: Pick<DockerReference, 'domain' | 'repository'>,
): Credentials | undefined {
  const { username, password, dockerConfig } = request;
  if (username && password) return { username, password };
  if (dockerConfig === undefined) return undefined;
  const config = parseRecord(dockerConfig);
  if (!config) throw refused('it is not a JSON object');
  const entries = new Map<string, unknown>();
  for (const [key, entry] of Object.entries(asRecord(config['auths']) ?? {})) {
    const place = placeOf(key);
    if (!entries.has(place)) entries.set(place, entry);
  }
  for (const place of placesOf(reference)) {
    const entry = asRecord(entries.get(place));
    if (entry) return credentialsIn(entry, reference.domain);
  }
  return undefined;
}

/** The address and what it lies in, longest first: `host/team/image`, `host/team`, `host`. */
function placesOf({ domain, repository }: Pick<DockerReference, 'domain' | 'repository'>): string[] {
  const parts = repository.split('/');
  return [...parts.map((_, index) => [domain, ...parts.slice(0, parts.length - index)].join('/')), domain];
}

/** Keys are hosts, hosts with a path, or URLs such as Docker's own `https://index.docker.io/v1/`. */
function placeOf(key: string): string {
  const [host = '', ...path] = key.replace(/^https?:\/\//iu, '').split('/');
  const rest = path.filter((part) => part !== '' && part !== 'v1' && part !== 'v2');
  return [canonicalDomain(host), ...rest].join('/');
}

function credentialsIn(entry: Readonly<Record<string, unknown>>, domain: string): Credentials | undefined {
  const [username, password] = [asText(entry['username']), asText(entry['password'])];
  if (username && password) return { username, password };
  // before `auth`, which beside a token has a user name that stands for nobody and an empty password
  const identityToken = asText(entry['identitytoken']);
  if (identityToken) return { identityToken };
  if (asText(entry['registrytoken']))
    throw refused(
      `the entry of ${domain} is a token for the registry itself; a user name and a password are needed`,
    );
  const decoded = Buffer.from(asText(entry['auth']) ?? '', 'base64').toString('utf8');
  const colon = decoded.indexOf(':');
  if (colon > 0) {
    // some tools end the password with NUL bytes
    return { username: decoded.slice(0, colon), password: withoutEnd(decoded.slice(colon + 1), '\0') };
  }
  if (decoded !== '') throw refused(`the entry of ${domain} is not a user name and a password`);
  return undefined;
}

function refused(why: string): Error {
  return permanentFailure('InvalidDataVolume', `.dockerconfigjson cannot be used: ${why}`);
}
