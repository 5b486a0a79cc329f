import { createAddressGuard } from './addresses.js';
import { createAgents } from './agents.js';
import { displayUrl } from './display-url.js';
import { parseGcsUrl } from './gcs-address.js';
import { createPinnedGeneration } from './gcs-generation.js';
import type { PinnedGeneration } from './gcs-generation.js';
import { createGcsAuthorization, parseServiceAccountKey } from './gcs-token.js';
import { createHttpSource } from './http-source.js';
import { requestSmall } from './small-request.js';
import type { SmallAnswer, SmallRequest } from './small-request.js';
import type { GcsRequest, ImageSource, SourceOptions } from './types.js';

const DEFAULT_TIMEOUT_MS = 60_000;

/**
 * Opens an object of Google Cloud Storage: the HTTP source on the generation that the object has when it is first asked for. One
 * that is replaced meanwhile is `SourceChanged`, never a mixture. An object stored with `Content-Encoding: gzip` comes as it is
 * stored.
 *
 * @throws `InvalidDataVolume` for an address without an object, a key that cannot be used, or what {@link createHttpSource} refuses.
 */
export async function createGcsSource(request: GcsRequest, options: SourceOptions): Promise<ImageSource> {
  const { url } = parseGcsUrl(request.url);
  const key = request.credentials === undefined ? undefined : parseServiceAccountKey(request.credentials);
  const display = options.displayUrl ?? displayUrl(request.url.trim());
  const network = {
    insecureSkipVerify: false,
    ...(request.ca === undefined ? {} : { ca: request.ca }),
    ...(request.proxy === undefined ? {} : { proxy: request.proxy }),
  };
  const channel = openChannel(network, options);
  const authorization = key && (await createGcsAuthorization(key, channel.send));
  const authorize = async (refused = false): Promise<Record<string, string>> =>
    authorization ? { authorization: await authorization(refused) } : {};
  const pinned = createPinnedGeneration({ url, display, send: channel.send, authorize });
  const bytes = createHttpSource(
    { kind: 'http', url: url.href, headers: [], secretHeaders: [], ...network },
    {
      ...options,
      displayUrl: display,
      async entrance(refused) {
        const headers = await authorize(refused);
        const { url: media, isGzip } = await pinned.get();
        return { url: media, headers: isGzip ? { ...headers, 'accept-encoding': 'gzip' } : headers };
      },
    },
  );
  return explaining(bytes, pinned, () => channel.close());
}

/** For tokens and metadata: the same ways as the bytes go, by connections of their own. */
function openChannel(
  network: Parameters<typeof createAgents>[0],
  { policy, signal, stallMs }: SourceOptions,
): { readonly send: (request: SmallRequest) => Promise<SmallAnswer>; close(): void } {
  const agents = createAgents(network, createAddressGuard(policy));
  const closing = new AbortController();
  const means = {
    agents,
    signal: AbortSignal.any([signal, closing.signal]),
    timeoutMs: stallMs ?? DEFAULT_TIMEOUT_MS,
  };
  return {
    send: (request) => requestSmall(means, request),
    close() {
      closing.abort(new Error('source is closed'));
      agents.close();
    },
  };
}

/** The bytes, with what a missing generation means. */
function explaining(bytes: ImageSource, pinned: PinnedGeneration, onClose: () => void): ImageSource {
  const explained = async (error: unknown): Promise<never> => {
    throw await pinned.explain(error);
  };
  return {
    probe: () => bytes.probe().catch(explained),
    async *stream(start) {
      try {
        yield* bytes.stream(start);
      } catch (error) {
        await explained(error);
      }
    },
    readInto: (start, target) => bytes.readInto(start, target).catch(explained),
    get bytesRead() {
      return bytes.bytesRead;
    },
    close() {
      bytes.close();
      onClose();
    },
  };
}
