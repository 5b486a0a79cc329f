import { createAddressGuard } from './addresses.js';
import { createAgents } from './agents.js';
import type { BodyReader } from './body.js';
import { displayUrl, parseSourceUrl } from './display-url.js';
import { createOriginHeaders } from './origin.js';
import { probeSource } from './probe.js';
import type { Probed } from './probe.js';
import { createRangeReader } from './range-reader.js';
import { createRoute } from './route.js';
import type { Session } from './session.js';
import { streamFrom } from './stream.js';
import type { ImageSource, SourceOptions, SourceRequest } from './types.js';

const DEFAULT_STALL_MS = 60_000;
const DEFAULT_RECONNECTS = 5;
const DEFAULT_BACKOFF_MS = 500;

/**
 * Opens an HTTP or HTTPS source; nothing is sent before a method is called. `stream` and `readInto` probe first if nobody has.
 *
 * @throws `InvalidDataVolume` for a URL, header or CA bundle that cannot be used; TypeError for an address policy that is none.
 */
export function createHttpSource(request: SourceRequest, options: SourceOptions): ImageSource {
  const closing = new AbortController();
  let bytesRead = 0;
  const session = openSession(request, options, closing.signal, (bytes) => (bytesRead += bytes));
  const route = createRoute(session);
  const ranges = createRangeReader(session, route);
  let probing: Promise<Probed> | undefined;
  let rest: BodyReader | undefined;

  function probeOnce(): Promise<Probed> {
    probing ??= probeSource({ session, route, ranges }, options.expected).then(
      (probed) => {
        rest = probed.rest;
        return probed;
      },
      (error: unknown) => {
        probing = undefined;
        throw error;
      },
    );
    return probing;
  }

  function takeRest(): BodyReader | undefined {
    const taken = rest;
    rest = undefined;
    return taken;
  }

  async function* stream(start: number): AsyncGenerator<Buffer, void, undefined> {
    session.signal.throwIfAborted();
    yield* streamFrom({ session, route, probed: await probeOnce(), takeRest }, start);
  }

  return {
    async probe() {
      session.signal.throwIfAborted();
      return (await probeOnce()).facts;
    },
    stream,
    async readInto(start, target) {
      session.signal.throwIfAborted();
      await ranges.readInto((await probeOnce()).facts, start, target);
    },
    get bytesRead() {
      return bytesRead;
    },
    close() {
      closing.abort(new Error('source is closed'));
      takeRest()?.close();
      session.agents.close();
    },
  };
}

function openSession(
  request: SourceRequest,
  options: SourceOptions,
  closing: AbortSignal,
  received: (bytes: number) => void,
): Session {
  const origin = parseSourceUrl(request.url);
  return {
    origin,
    display: displayUrl(origin),
    headers: createOriginHeaders(request, origin),
    agents: createAgents(request, createAddressGuard(options.policy)),
    signal: AbortSignal.any([options.signal, closing]),
    stallMs: options.stallMs ?? DEFAULT_STALL_MS,
    maxReconnects: options.maxReconnects ?? DEFAULT_RECONNECTS,
    backoffMs: options.backoffMs ?? DEFAULT_BACKOFF_MS,
    notice: options.notice ?? (() => undefined),
    received,
  };
}
