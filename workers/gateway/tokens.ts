/** Upload tokens: CDI's own shape (`clients.md` §2.3), and bound to the one claim that they were asked for. */
import { errors, jwtVerify, SignJWT, type JWTPayload } from 'jose';
import { whyNoName } from './object-names.js';
import type { SigningKeys } from './signing-keys.js';

/** CDI's algorithm; no other is believed, whatever a token says of itself. */
const ALGORITHM = 'PS256';
/** CDI's issuer. */
const ISSUER = 'cdi-apiserver';
const OPERATION = 'Upload';
const RESOURCE = { group: '', version: 'v1', resource: 'persistentvolumeclaims' } as const;

/** A token is good for so long, in seconds; CDI's. */
export const TOKEN_SECONDS = 300;
/** Tokens are renewed until so long after the first one, in seconds: as long as CDI lets an upload pod wait. */
export const RENEW_SECONDS = 12 * 3_600;
/** Clocks of replicas may differ by so much, in seconds. */
const CLOCK_TOLERANCE_SECONDS = 5;

/** Who was allowed to have the token, as a SubjectAccessReview asks. */
export interface TokenHolder {
  readonly user: string;
  readonly uid?: string;
  readonly groups: readonly string[];
  readonly extra: Readonly<Record<string, readonly string[]>>;
}

/** What a token lets somebody upload into. */
export interface TokenTarget {
  readonly namespace: string;
  readonly name: string;
  /** uid of the claim; absent where it did not exist yet. */
  readonly claimUid?: string;
  /** uid of the DataVolume whose claim did not exist yet. */
  readonly dataVolumeUid?: string;
  /** Whose right is asked for again when the token is renewed; absent where it is too much for a header. */
  readonly holder?: TokenHolder;
}

/** A token that was verified. */
export interface UploadToken extends TokenTarget {
  /** When the first token of this chain of renewals was made, in seconds since the epoch. */
  readonly since: number;
  /** When it ends, in seconds since the epoch. */
  readonly expires: number;
}

/**
 * A token that is refused: `invalid` is not believed (401), `unfit` is genuine but for something else (400), as CDI tells them apart;
 * `expired` was believed until now (401), and whom `forbidden` names may not have another one (403).
 */
export class TokenError extends Error {
  override readonly name = 'TokenError';
  readonly kind: 'invalid' | 'unfit' | 'expired' | 'forbidden';
  constructor(kind: TokenError['kind'], message: string) {
    super(message);
    this.kind = kind;
  }
}

/** Makes and verifies tokens. */
export interface Tokens {
  issue(target: TokenTarget): Promise<string>;
  /** @throws TokenError */
  verify(token: string): Promise<UploadToken>;
  /** Another token for the same claim and holder, whose right has been asked for. @throws TokenError `invalid` when the first one is too old */
  renew(token: UploadToken): Promise<string>;
}

/** What dvflow adds to CDI's claims. */
interface OwnClaims {
  readonly claimUid?: string;
  readonly dataVolumeUid?: string;
  readonly holder?: TokenHolder;
  readonly since: number;
}

/** A header holds 16 KiB for Node, and 8 KiB for many a proxy: users are in many groups. In characters of JSON. */
const MAX_HOLDER = 4_096;

/** Tokens signed and verified with the keys; `now` in ms is for tests. */
export function createTokens(keys: SigningKeys, now: () => number = Date.now): Tokens {
  const seconds = (): number => Math.floor(now() / 1000);

  async function sign(target: TokenTarget, since: number, lifetime: number): Promise<string> {
    const { name, namespace, claimUid, dataVolumeUid, holder } = target;
    const fits = holder !== undefined && JSON.stringify(holder).length <= MAX_HOLDER;
    const dvflow: OwnClaims = {
      since,
      ...(claimUid === undefined ? {} : { claimUid }),
      ...(dataVolumeUid === undefined ? {} : { dataVolumeUid }),
      ...(fits ? { holder } : {}),
    };
    const at = seconds();
    return await new SignJWT({ operation: OPERATION, name, namespace, resource: RESOURCE, dvflow })
      .setProtectedHeader({ alg: ALGORITHM })
      .setIssuer(ISSUER)
      .setIssuedAt(at)
      .setNotBefore(at)
      .setExpirationTime(at + lifetime)
      .sign(await keys.signing());
  }

  /** @throws TokenError `invalid`; undefined when none of the known keys has signed it */
  async function open(token: string): Promise<JWTPayload | undefined> {
    for (const key of await keys.verifying()) {
      try {
        const { payload } = await jwtVerify(token, key, {
          algorithms: [ALGORITHM],
          issuer: ISSUER,
          clockTolerance: CLOCK_TOLERANCE_SECONDS,
          currentDate: new Date(now()),
          requiredClaims: ['exp'],
        });
        return payload;
      } catch (error) {
        if (error instanceof errors.JWSSignatureVerificationFailed) continue;
        throw refused(error);
      }
    }
    return undefined;
  }

  return {
    issue: async (target) => await sign(target, seconds(), TOKEN_SECONDS),

    async verify(token) {
      const payload = (await open(token)) ?? ((await keys.refresh()) ? await open(token) : undefined);
      if (!payload) throw new TokenError('invalid', 'the upload token was not signed here');
      return read(payload);
    },

    async renew(token) {
      const left = token.since + RENEW_SECONDS - seconds();
      if (left <= 0) {
        const hours = RENEW_SECONDS / 3_600;
        throw new TokenError(
          'invalid',
          `upload tokens are renewed for ${hours} hours only: ask for a new one`,
        );
      }
      return await sign(token, token.since, Math.min(TOKEN_SECONDS, left));
    },
  };
}

/** @throws TokenError `unfit` for a token that CDI or this gateway makes for another purpose */
function read(payload: JWTPayload): UploadToken {
  const {
    operation,
    name,
    namespace,
    resource,
    dvflow,
    exp = 0,
  } = payload as JWTPayload & {
    resource?: Partial<typeof RESOURCE>;
    dvflow?: Partial<OwnClaims>;
  };
  if (operation !== OPERATION) throw new TokenError('unfit', 'the token is not one for uploads');
  if (!isName(name) || !isName(namespace)) throw new TokenError('unfit', 'the token names no claim');
  if (resource?.resource !== RESOURCE.resource || resource.group !== '')
    throw new TokenError('unfit', 'the token is not one for a PersistentVolumeClaim');
  return {
    namespace,
    name,
    expires: exp,
    since: dvflow?.since ?? 0,
    ...(dvflow?.claimUid === undefined ? {} : { claimUid: dvflow.claimUid }),
    ...(dvflow?.dataVolumeUid === undefined ? {} : { dataVolumeUid: dvflow.dataVolumeUid }),
    ...(dvflow?.holder === undefined ? {} : { holder: dvflow.holder }),
  };
}

/** They become a part of an address. */
function isName(value: unknown): value is string {
  return typeof value === 'string' && whyNoName(value) === undefined;
}

function refused(error: unknown): TokenError {
  if (error instanceof errors.JWTExpired)
    return new TokenError('expired', 'the upload token has expired: ask for a new one');
  return new TokenError('invalid', 'the upload token is not valid');
}
