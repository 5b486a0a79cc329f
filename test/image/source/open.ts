import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { failureTypeOf } from '../../../activities/failures.js';
import { createHttpSource } from '../../../activities/image/source/http-source.js';
import { openSource } from '../../../activities/image/source/open-source.js';
import type {
  HttpRequest,
  ImageSource,
  SourceOptions,
  SourceRequest,
} from '../../../activities/image/source/types.js';
import type { FailureType } from '../../../activities/types.js';
import { PAGE } from '../../support/servers/index.js';
import type { RunningServer } from '../../support/servers/index.js';

/** 3 MiB and a bit: longer than the probe's head, and no multiple of anything. */
export const BYTES = randomBytes(3 * 1024 * 1024 + 12_345);

/** A source, what it said, and the way to end it. */
export interface Opened {
  readonly source: ImageSource;
  readonly notices: string[];
  readonly abort: AbortController;
}

/** Opens sources and servers for one suite, and ends them after each test. */
export interface Bench {
  open(url: string, request?: Partial<HttpRequest>, options?: Partial<SourceOptions>): Opened;
  /** Opens a source of any kind as the engine does. */
  openRequest(request: SourceRequest, options?: Partial<SourceOptions>): Promise<Opened>;
  serve<S extends RunningServer>(server: Promise<S>): Promise<S>;
}

/** Call inside `describe`. */
export function useBench(): Bench {
  const ends: (() => unknown)[] = [];
  afterEach(async () => {
    for (const end of ends.splice(0)) await end();
  });
  return {
    open(url, request = {}, options = {}) {
      const settings = settingsWith({ pipelining: false, ...options });
      const source = createHttpSource(
        { kind: 'http', url, headers: [], secretHeaders: [], insecureSkipVerify: false, ...request },
        settings.options,
      );
      ends.push(() => source.close());
      return { source, ...settings };
    },
    async openRequest(request, options = {}) {
      const settings = settingsWith(options);
      const source = await openSource(request, settings.options);
      ends.push(() => source.close());
      return { source, ...settings };
    },
    async serve(starting) {
      const server = await starting;
      ends.push(() => server.close());
      return server;
    },
  };
}

function settingsWith(options: Partial<SourceOptions>) {
  const notices: string[] = [];
  const abort = new AbortController();
  const defaults: SourceOptions = {
    policy: { allowed: ['127.0.0.0/8'], denied: [] },
    signal: abort.signal,
    notice: (message) => notices.push(message),
    backoffMs: 1,
  };
  return { notices, abort, options: { ...defaults, ...options } };
}

/** All bytes of a stream. */
export async function collect(chunks: AsyncIterable<Buffer>): Promise<Buffer> {
  const all: Buffer[] = [];
  for await (const chunk of chunks) all.push(Buffer.from(chunk));
  return Buffer.concat(all);
}

/** The failure of a promise, checked for its type, its text, and for what no failure may say. */
export async function fails(promise: Promise<unknown>, type: FailureType, message: RegExp): Promise<Error> {
  const error = await promise.then(
    () => assert.fail(`expected ${type}`),
    (reason: unknown) => reason as Error,
  );
  assert.equal(failureTypeOf(error), type, error.stack);
  assert.match(error.message, message);
  assert.doesNotMatch(error.message, new RegExp(`${PAGE}|pass-word|sesame|signature`, 'u'));
  return error;
}
