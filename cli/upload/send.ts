/** Sends a file by the tus protocol, and goes on by itself after whatever breaks. */
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { DefaultHttpStack, Upload } from 'tus-js-client';
import type { BegunUpload, BegunUploadStore } from './begun-upload.js';
import { createTryReader } from './file-reader.js';
import type { SourceFile } from './source-file.js';
import { faultOf, reasonOf, verdictOf } from './verdict.js';

/** What is sent where. */
export interface Sending {
  readonly source: SourceFile;
  /** `https://host/tus/uploads` */
  readonly endpoint: string;
  /** `algorithm:hex` of the file. */
  readonly checksum?: string;
  /** Authorities of the server; absent: those of this machine. */
  readonly ca?: string;
  readonly insecure?: boolean;
  /** A token that is good now. */
  readonly token: () => Promise<string>;
  /** Where it is remembered; when it has been sent, that is, until the caller forgets it. */
  readonly begun: BegunUploadStore;
  readonly onProgress: (sent: number, total: number) => void;
  /** Asked after each try that broke off. @throws CliError where what is uploaded into takes no upload any more */
  readonly check?: () => Promise<void>;
  /** Told why it is tried again. */
  readonly notice: (text: string) => void;
  readonly signal: AbortSignal;
}

/** How it went. */
export interface Sent {
  readonly bytes: number;
  /** Bytes that were handed to the network, those sent again included. */
  readonly bytesSent: number;
  /** Whether an earlier call had begun. */
  readonly resumed: boolean;
  readonly retries: number;
}

/** Waits between tries, in ms; from the first one again after each byte that arrived. */
const WAITS_MS = [500, 1_000, 2_000, 5_000];
/** A token is asked for when the last one is this old, in ms: it lasts five minutes. */
const TOKEN_MS = 120_000;

/** Sends until all of it has arrived, is verified and synced. @throws CliError for what no other try cures */
export async function sendFile(sending: Sending): Promise<Sent> {
  const { source, signal } = sending;
  signal.throwIfAborted();
  forgetAnother(sending);
  const attempts = createAttempts(sending);
  for (let retries = 0, barren = 0, alike = 0, fault = ''; ; retries += 1) {
    const before = attempts.furthest;
    try {
      await attempts.run();
      const { bytesSent, resumed } = attempts;
      return { bytes: source.size, bytesSent, resumed, retries };
    } catch (error) {
      signal.throwIfAborted();
      const [last, moved] = [fault, attempts.furthest > before];
      fault = faultOf(error);
      barren = moved ? 0 : barren + 1;
      alike = moved || fault !== last ? 1 : alike + 1;
      attempts.judge(error, alike);
      // an upload into what has failed meanwhile would be tried for ever
      await sending.check?.();
      const wait = WAITS_MS[Math.min(barren, WAITS_MS.length - 1)] ?? 0;
      sending.notice(`${reasonOf(error)}: trying again`);
      await sleep(wait, undefined, { signal }).catch(() => undefined);
      signal.throwIfAborted();
    }
  }
}

/** What has arrived of another version of the file is not gone on with, or the disk would be a mixture of both. */
function forgetAnother({ source, checksum, begun, notice }: Sending): void {
  const found = begun.read();
  if (!found) return;
  const isSame = found.version === source.version;
  if (isSame && found.checksum === checksum) return;
  const why = isSame ? 'another checksum is given' : `${source.path} has changed`;
  notice(`${why} since the upload began: beginning anew`);
  begun.write(null);
}

/** Tries, one after another, of one upload. */
interface Attempts {
  readonly bytesSent: number;
  readonly resumed: boolean;
  /** Largest offset that was reached. */
  readonly furthest: number;
  run(): Promise<void>;
  /** @throws what ends the upload, where no other try helps */
  judge(error: unknown, alike: number): void;
}

function createAttempts(sending: Sending): Attempts {
  const { source, endpoint, ca, insecure, checksum, begun, signal } = sending;
  const { path, size, version } = source;
  const remembered = (uploadUrl: string): BegunUpload => ({
    uploadUrl,
    version,
    ...(checksum === undefined ? {} : { checksum }),
  });
  const state = { bytesSent: 0, resumed: false, furthest: 0, first: true, met: false };

  async function run(): Promise<void> {
    const { promise, resolve: done, reject } = Promise.withResolvers<void>();
    let last: number | undefined;
    // each try has a token of its own: the last one may have ended while the server was away
    const bearer = createBearer(sending);
    const known = atEndpoint(begun.read()?.uploadUrl, endpoint);
    if (known !== undefined && state.first) state.resumed = true;
    state.first = false;
    const reader = createTryReader(source, reject);
    const agent = createAgent(endpoint);
    // the reader knows the file; the client only wants something
    const upload: Upload = new Upload(Buffer.from(path), {
      fileReader: reader.fileReader,
      // with both, any answer to HEAD but 2xx and 423 would begin another upload, and cost what is durable
      ...(known === undefined ? { endpoint } : { uploadUrl: known }),
      uploadSize: size,
      chunkSize: Number.POSITIVE_INFINITY,
      metadata: { filename: basename(path), ...(checksum ? { checksum } : {}) },
      // the loop above waits as it sees fit
      retryDelays: null,
      storeFingerprintForResuming: false,
      onUploadUrlAvailable: () => begun.write(upload.url === null ? null : remembered(upload.url)),
      httpStack: new DefaultHttpStack({
        agent,
        ...(ca ? { ca } : {}),
        rejectUnauthorized: insecure !== true,
      }),
      onBeforeRequest: async (request) => request.setHeader('Authorization', `Bearer ${await bearer()}`),
      onAfterResponse(_request, response) {
        state.met ||= response.getHeader('Tus-Resumable') !== undefined;
      },
      onProgress(sent) {
        state.bytesSent += Math.max(0, sent - (last ?? sent));
        last = sent;
        state.furthest = Math.max(state.furthest, sent);
        sending.onProgress(sent, size);
      },
      onError: reject,
      onSuccess: () => {
        if (upload.url !== null) begun.write({ ...remembered(upload.url), sent: true });
        done();
      },
    });
    const stop = (): void => void upload.abort().finally(() => reject(signal.reason as Error));
    signal.addEventListener('abort', stop, { once: true });
    try {
      upload.start();
      await promise;
    } finally {
      signal.removeEventListener('abort', stop);
      // a request whose body has been closed would wait for the rest of it
      void upload.abort();
      reader.close();
      agent.destroy();
    }
  }

  function judge(error: unknown, alike: number): void {
    const { met } = state;
    const { forget, final } = verdictOf(error, {
      endpoint,
      alike,
      met,
      known: begun.read() !== undefined,
    });
    if (forget) begun.write(null);
    if (final) throw final;
  }

  return Object.assign(state, { run, judge });
}

/**
 * Connections of one try. By one that has broken off the server may still read the rest of its body away, for seconds, before it would
 * hear the next request.
 */
function createAgent(endpoint: string): HttpAgent {
  return new (endpoint.startsWith('https:') ? HttpsAgent : HttpAgent)({ keepAlive: true });
}

/** Where an unfinished upload is reached by the way that is named now: any gateway goes on with it, whatever it was made through. */
function atEndpoint(address: string | undefined, endpoint: string): string | undefined {
  if (address === undefined || address.startsWith(`${endpoint}/`)) return address;
  const id = URL.parse(address)?.pathname.split('/').at(-1);
  return id ? `${endpoint}/${id}` : address;
}

/** Renews the token while requests go on; one that is sent with a request lasts for it, however long it takes. */
function createBearer({ token }: Sending): () => Promise<string> {
  let known: { readonly text: string; readonly at: number } | undefined;
  return async () => {
    if (!known || Date.now() - known.at > TOKEN_MS) known = { text: await token(), at: Date.now() };
    return known.text;
  };
}
