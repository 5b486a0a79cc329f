import { createHttpSource, openSession } from '../source/http-source.js';
import type { HttpRequest, ImageSource, RegistryRequest, SourceOptions } from '../source/types.js';
import { connect, fetchAuthorized, type Connection } from './connection.js';
import { hashFor, parseDigest, requireDigest, verifyBytes } from './content-digest.js';
import { credentialsFor } from './credentials.js';
import { MANIFEST_LIMIT, MANIFEST_TYPES, requireNewSchema } from './manifest.js';
import type { DockerReference } from './reference.js';
import type { ImageStore, ManifestDocument } from './store.js';

/**
 * A client of the OCI distribution protocol for one image. Blobs come through the HTTP source: it goes on where a connection was
 * lost, follows redirects to where the registry keeps its blobs, and asks for a new token when one has ended.
 *
 * @throws {@link FailureType} `InvalidDataVolume` for a CA bundle or a `.dockerconfigjson` that cannot be used
 */
export function createRegistryClient(
  reference: DockerReference,
  request: RegistryRequest,
  options: SourceOptions,
): ImageStore {
  const { domain, host, repository, version, digest } = reference;
  const { insecure } = request;
  const display = options.displayUrl ?? reference.display;
  const credentials = credentialsFor(request, reference);
  const closing = new AbortController();
  const blobs: ImageSource[] = [];
  let documentBytes = 0;
  const session = openSession(
    httpRequest(request, `https://${host}/v2/`),
    { ...options, displayUrl: display },
    closing.signal,
    (bytes) => (documentBytes += bytes),
  );
  let connecting: Promise<Connection> | undefined;

  function connected(): Promise<Connection> {
    connecting ??= connect({ session, reference, credentials, insecure });
    // a registry that did not answer is asked anew
    connecting.catch(() => (connecting = undefined));
    return connecting;
  }

  async function manifest(wanted: string, expected: string | undefined): Promise<ManifestDocument> {
    const name = expected === undefined ? display : `docker://${domain}/${repository}@${expected}`;
    const { bytes, headers } = await fetchAuthorized({ ...session, display: name }, await connected(), {
      path: `${repository}/manifests/${wanted}`,
      own: { accept: MANIFEST_TYPES.join(', ') },
      limit: MANIFEST_LIMIT,
    });
    const mediaType = headers['content-type']?.split(';')[0]?.trim().toLowerCase();
    // a manifest of schema 1 is signed in itself: its digest is of what it signs, not of its bytes
    requireNewSchema(mediaType, name);
    if (expected !== undefined) verifyBytes(bytes, expected, `manifest of ${name}`);
    verifyAnnounced(bytes, headers['docker-content-digest'], name);
    return { bytes, ...(mediaType === undefined ? {} : { mediaType }) };
  }

  async function* blob(wanted: string, inOneAnswer = false): AsyncGenerator<Buffer> {
    const { base, authorization } = await connected();
    const url = new URL(`${repository}/blobs/${wanted}`, base);
    const { expected: _, ...shared } = options;
    const name = `docker://${domain}/${repository}@${wanted}`;
    const source = createHttpSource(httpRequest(request, url.href), {
      ...shared,
      signal: session.signal,
      displayUrl: name,
      provedByDigest: inOneAnswer,
      async entrance(refused, refusal) {
        // only the registry's own answers are refusals; those of redirect targets never come here
        if (refused)
          authorization.refused(refusal?.status === 401 ? { ...refusal, foreign: false } : undefined);
        return { url, headers: await authorization.headers() };
      },
    });
    blobs.push(source);
    try {
      yield* (inOneAnswer && source.inOneAnswer ? source.inOneAnswer() : source).stream(0);
    } finally {
      source.close();
    }
  }

  return {
    display,
    root: () => manifest(version, digest),
    manifest: (descriptor) => manifest(descriptor.digest, descriptor.digest),
    blob: (descriptor, inOneAnswer) => blob(descriptor.digest, inOneAnswer),
    get bytesRead() {
      return blobs.reduce((sum, source) => sum + source.bytesRead, documentBytes);
    },
    close() {
      closing.abort(new Error('source is closed'));
      session.agents.close();
    },
  };
}

/** Credentials are not in it: they are in the entrance, request by request. */
function httpRequest({ ca, proxy, insecure }: RegistryRequest, url: string): HttpRequest {
  return {
    kind: 'http',
    url,
    headers: [],
    secretHeaders: [],
    insecureSkipVerify: insecure,
    ...(ca === undefined ? {} : { ca }),
    ...(proxy === undefined ? {} : { proxy }),
  };
}

/** `Docker-Content-Digest` is the registry's own word for what it sent; a value that is no digest says nothing. */
function verifyAnnounced(bytes: Buffer, header: string | string[] | undefined, name: string): void {
  const announced = parseDigest(String(header ?? '').trim());
  if (!announced) return;
  const what = `manifest of ${name}, as the registry announced it`;
  requireDigest(hashFor(announced.text).update(bytes), announced.text, what);
}
