import { displayUrl } from './display-url.js';
import { createHttpSource } from './http-source.js';
import { inRegion, parseS3Url } from './s3-address.js';
import type { S3Address } from './s3-address.js';
import { createS3Keys } from './s3-credentials.js';
import type { S3KeyProvider } from './s3-credentials.js';
import type { Entrance, ImageSource, Refusal, S3Request, SourceOptions } from './types.js';

/** A signature serves so long, in ms; it is valid much longer, so that no request is under way when it ends. */
const SIGNATURE_AGE_MS = 900_000;

/** A session's keys are not used in its last moments, in ms. */
const SESSION_MARGIN_MS = 60_000;

const DEFAULT_TIMEOUT_MS = 60_000;

/**
 * Opens an object of S3 or of a server that speaks its protocol: the HTTP source on a presigned address, or on the plain one
 * where there are no keys. A server that names another region (`x-amz-bucket-region`, or `<Region>` in an error) is followed there
 * once. Messages show the user's address, never the signed one.
 *
 * @throws `InvalidDataVolume` for an address without an object, half a pair of keys, or what {@link createHttpSource} refuses.
 */
export async function createS3Source(request: S3Request, options: SourceOptions): Promise<ImageSource> {
  const address = parseS3Url(request.url);
  const keys = createS3Keys(request, options.stallMs ?? DEFAULT_TIMEOUT_MS);
  return createHttpSource(
    {
      kind: 'http',
      url: address.url.href,
      headers: [],
      secretHeaders: [],
      insecureSkipVerify: false,
      ...(request.ca === undefined ? {} : { ca: request.ca }),
      ...(request.proxy === undefined ? {} : { proxy: request.proxy }),
    },
    {
      ...options,
      displayUrl: options.displayUrl ?? displayUrl(request.url.trim()),
      entrance: createEntrance(address, keys),
    },
  );
}

function createEntrance(
  first: S3Address,
  keys: S3KeyProvider,
): (refused: boolean, refusal?: Refusal) => Promise<Entrance> {
  let address = first;
  let moved = false;
  let signing: Promise<Signed> | undefined;

  async function sign(refused: boolean): Promise<Signed> {
    const found = await keys(refused);
    if (!found) return { url: address.url, until: Infinity };
    const { presign } = await import('./s3-signature.js');
    const until = Date.now() + SIGNATURE_AGE_MS;
    const ends = found.expiration?.getTime() ?? Infinity;
    return { url: await presign(address, found), until: Math.min(until, ends - SESSION_MARGIN_MS) };
  }

  /** Once only: two servers that name each other would go on for ever. */
  async function follow(refusal: Refusal): Promise<void> {
    if (moved) return;
    const region = await regionIn(refusal);
    if (moved || region === undefined || region === address.region) return;
    moved = true;
    address = inRegion(address, region) ?? address;
  }

  return async (refused, refusal) => {
    if (refusal) await follow(refusal);
    let current = refused ? undefined : await signing;
    if (!current || current.until <= Date.now()) {
      const renewed = sign(refused);
      signing = renewed;
      // a failure is asked for again, not kept
      renewed.catch(() => (signing = undefined));
      current = await renewed;
    }
    return { url: current.url, headers: {} };
  };
}

/** The region that a server wants: by AWS's header, else in the error itself, as most others say it. */
async function regionIn({ headers, beginning }: Refusal): Promise<string | undefined> {
  const named = headers['x-amz-bucket-region'];
  if (typeof named === 'string') return named;
  return /<Region>([^<]{1,63})<\/Region>/u.exec((await beginning?.()) ?? '')?.[1];
}

/** An address that serves until `until`, in ms since the epoch. */
interface Signed {
  readonly url: URL;
  readonly until: number;
}
