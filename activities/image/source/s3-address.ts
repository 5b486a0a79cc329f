import { isIP } from 'node:net';
import { permanentFailure } from '../../failures.js';
import { parseSourceUrl, withoutUserInfo } from './display-url.js';
import { decodePath, encodePath, encodeSegment, refuseCredentials } from './object-names.js';

/** Where an S3 object is, and by which region's name requests to it are signed. */
export interface S3Address {
  /** Scheme, endpoint and object as they are requested; without user info and, but for a version, without query. */
  readonly url: URL;
  readonly region: string;
}

/** Where AWS signs when nothing names a region, and what servers of others mostly go by. */
const DEFAULT_REGION = 'us-east-1';

/** Cloudflare's endpoints, which have one region. */
const R2_SUFFIX = '.r2.cloudflarestorage.com';

/** A region as a DNS label; everything that AWS has, and what servers of others may be configured to. */
const REGION = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/u;

/** A label that names one of AWS's regions (`eu-west-1`, `us-gov-east-1`), alone or in the old form `s3-eu-west-1`. */
const AWS_REGION = /^(?:s3-)?([a-z]{2,4}(?:-[a-z]+){1,3}-\d{1,2})$/u;

/** Bucket names that can be a label of a host name under AWS's certificates. */
const HOST_BUCKET = /^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$/u;

/**
 * Reads the address of an object. `s3://bucket/key` is an object at AWS; the key is taken letter by letter, as AWS's own tools
 * do. `http` and `https` addresses name their endpoint, which decides between the two styles itself: the first element of the
 * path is the bucket (CDI's rule), or the host begins with it. They are URLs: escapes in them are decoded, and slashes at their end
 * are none of the key's.
 *
 * The region is the one in an AWS host name, else the first label of the endpoint's (CDI's rule) or the one behind `s3`, where it
 * looks like a region, else `us-east-1`: a server that wants another one says so. At R2 it is `auto`.
 *
 * @throws `InvalidDataVolume` when there is no bucket or no key, a key that no URL can carry, or credentials before the bucket.
 */
export function parseS3Url(text: string): S3Address {
  const [, bucket, key] = /^s3:\/\/([^/]*)(?:\/([^]*))?$/iu.exec(text.trim()) ?? [];
  if (bucket !== undefined) return atAws(bucket, key);
  const parsed = withoutUserInfo(parseSourceUrl(text));
  const url = new URL(parsed.origin);
  // not by the constructor, for which a host would follow two slashes
  url.pathname = `/${encodePath(objectPath(parsed))}`;
  const version = parsed.searchParams.get('versionId');
  if (version) url.search = `versionId=${encodeSegment(version)}`;
  return { url, region: regionOf(parsed.hostname) };
}

/**
 * The same object in another region. At AWS another region has other hosts, but for those that serve all regions (`s3-accelerate`)
 * or were made for one network (`vpce`): there only the signature differs. `undefined` for what cannot be a region.
 */
export function inRegion({ url }: S3Address, region: string): S3Address | undefined {
  if (!REGION.test(region)) return undefined;
  const moved = new URL(url);
  const labels = awsLabels(url.hostname);
  if (labels && isRegional(labels)) moved.hostname = awsHost(labels, region, url.hostname);
  return { url: moved, region };
}

/** What a URL asks of its endpoint: the key alone where the host names the bucket, else both. */
function objectPath({ hostname, pathname }: URL): string {
  const elements = decodePath(pathname).split('/');
  const isNamed = namesBucket(hostname);
  const first = isNamed ? 1 : elements.findIndex((element) => element !== '');
  const last = elements.findLastIndex((element) => element !== '');
  // a bucket alone would be answered with a list of what is in it, which is no disk
  if (last < (isNamed ? 1 : first + 1)) throw incomplete();
  return elements.slice(first, last + 1).join('/');
}

function atAws(bucket: string, key = ''): S3Address {
  refuseCredentials(bucket);
  if (bucket === '' || key === '') throw incomplete();
  const host = `s3.${DEFAULT_REGION}.amazonaws.com`;
  const url = HOST_BUCKET.test(bucket)
    ? new URL(`https://${bucket}.${host}/${encodePath(key)}`)
    : new URL(`https://${host}/${encodePath(`${bucket}/${key}`)}`);
  return { url, region: DEFAULT_REGION };
}

/** The labels before `amazonaws.com`, or `undefined` for endpoints of others. */
function awsLabels(host: string): string[] | undefined {
  const [, labels] = /^(.+)\.amazonaws\.com(?:\.cn)?$/u.exec(host) ?? [];
  return labels?.split('.');
}

/** A host of AWS that begins with a bucket, or with what stands for one, and not with the service. */
function namesBucket(host: string): boolean {
  const labels = awsLabels(host);
  if (!labels) return false;
  // bucket.vpce-1a2b.s3.eu-west-1.vpce is the endpoint of a network
  const network = labels.findLastIndex((label) => label.startsWith('vpce-'));
  if (labels.at(-1) === 'vpce' && network >= 0)
    return !['', 'bucket'].includes(labels.slice(0, network).join('.'));
  return labels.findLastIndex((label) => ['s3', 's3-fips'].includes(label) || isOldForm(label)) !== 0;
}

/** `s3-eu-west-1`, before AWS gave the region a label of its own. */
function isOldForm(label: string): boolean {
  return label.startsWith('s3-') && AWS_REGION.test(label);
}

/** A host that ends in its region, or is the global one. */
function isRegional(labels: readonly string[]): boolean {
  const last = labels.at(-1) ?? '';
  return AWS_REGION.test(last) || last === 's3' || last === 's3-fips';
}

/** `s3-eu-west-1`, `s3.eu-west-1` and the global `s3` all become `s3.<region>`; what stands before stays. */
function awsHost(labels: readonly string[], region: string, host: string): string {
  const last = labels.at(-1) ?? '';
  const before = AWS_REGION.test(last) ? labels.slice(0, -1) : labels;
  const service = isOldForm(last) ? ['s3'] : [];
  const suffix = host.endsWith('.cn') ? 'amazonaws.com.cn' : 'amazonaws.com';
  return [...before, ...service, region, suffix].join('.');
}

function regionOf(host: string): string {
  const labels = awsLabels(host);
  // s3.eu-west-1.vpce: an endpoint of a network
  const last = labels?.at(-1) === 'vpce' ? labels.at(-2) : labels?.at(-1);
  if (labels) return AWS_REGION.exec(last ?? '')?.[1] ?? DEFAULT_REGION;
  if (isIP(host) !== 0) return DEFAULT_REGION;
  // the first label is an account
  if (host.endsWith(R2_SUFFIX)) return 'auto';
  const [first = '', second = '', ...rest] = host.split('.');
  // s3.fr-par.scw.cloud names its region behind the service, s3.example.com has none
  const label = first === 's3' ? (rest.length >= 2 ? second : '') : first;
  return /[-\d]/u.test(label) && REGION.test(label) ? label : DEFAULT_REGION;
}

function incomplete(): Error {
  return permanentFailure('InvalidDataVolume', 'S3 address names no object: a bucket and a key are needed');
}
