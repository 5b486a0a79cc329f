import { permanentFailure } from '../../failures.js';
import { parseSourceUrl } from './display-url.js';
import { decodePath, encodeSegment, refuseCredentials } from './object-names.js';

/** Google's own endpoint. */
const GOOGLE = 'https://storage.googleapis.com';

/** Hosts under which Google shows the objects of that endpoint: to people who are logged in, and by a bucket's own name. */
const LOGGED_IN_HOST = 'storage.cloud.google.com';
const BUCKET_HOST_SUFFIX = '.storage.googleapis.com';

/** An object of Google Cloud Storage, as its JSON interface names it. */
export interface GcsAddress {
  /** `https://host/storage/v1/b/<bucket>/o/<object>`: its metadata, and with `alt=media` its bytes. */
  readonly url: URL;
}

/**
 * Reads the address of an object: `gs://bucket/object`, taken letter by letter as Google's own tools do, or
 * `http(s)://host/bucket/object` for any server that speaks the JSON interface (CDI's rule); the latter is a URL, escapes in it
 * are decoded.
 *
 * @throws `InvalidDataVolume` when it names no object, or credentials.
 */
export function parseGcsUrl(text: string): GcsAddress {
  const [, bucket, object] = /^gs:\/\/([^/]*)\/([^]*)$/iu.exec(text.trim()) ?? [];
  if (bucket !== undefined && object !== undefined) {
    refuseCredentials(bucket);
    return addressOf(GOOGLE, bucket, object);
  }
  if (/^gs:/iu.test(text.trim())) throw incomplete();
  const { hostname, origin, pathname } = parseSourceUrl(text);
  const path = decodePath(pathname.slice(1));
  if (hostname.endsWith(BUCKET_HOST_SUFFIX)) {
    return addressOf(GOOGLE, hostname.slice(0, -BUCKET_HOST_SUFFIX.length), path);
  }
  const slash = path.indexOf('/');
  if (slash < 0) throw incomplete();
  const endpoint = hostname === LOGGED_IN_HOST ? GOOGLE : origin;
  return addressOf(endpoint, path.slice(0, slash), path.slice(slash + 1));
}

function addressOf(endpoint: string, bucket: string, object: string): GcsAddress {
  // elements of dots would be taken out of the path on the way
  if (/^\.{0,2}$/u.test(bucket) || /^\.{0,2}$/u.test(object)) throw incomplete();
  return { url: new URL(`/storage/v1/b/${encodeSegment(bucket)}/o/${encodeSegment(object)}`, endpoint) };
}

function incomplete(): Error {
  return permanentFailure(
    'InvalidDataVolume',
    'GCS address names no object: a bucket and an object are needed',
  );
}
