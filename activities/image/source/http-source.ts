import { createAddressGuard } from './addresses.js';
import { createAgents } from './agents.js';
import type { BodyReader } from './body.js';
import { displayUrl, parseSourceUrl, withoutUserInfo } from './display-url.js';
import { createOriginHeaders } from './origin.js';
import { probeSource, probeWhole } from './probe.js';
import type { Probed } from './probe.js';
import { createRangeReader } from './range-reader.js';
import { validatorsOf } from './ranges.js';
import { persistently } from './reconnects.js';
import { createPipelinedRanges } from './pipeline/pipelined-ranges.js';
import { streamByRanges } from './ranged-stream.js';
import { createRoute } from './route.js';
import type { Session } from './session.js';
import { streamFrom } from './stream.js';
import type { Entrance, HttpRequest, ImageSource, SourceOptions } from './types.js';

const DEFAULT_STALL_MS = 60_000;
const DEFAULT_RECONNECTS = 5;
const DEFAULT_BACKOFF_MS = 500;

/**
 * Opens an HTTP or HTTPS source; nothing is sent before a method is called. `stream` and `readInto` probe first if nobody has.
 *
 * @throws `InvalidDataVolume` for a URL, header or CA bundle that cannot be used; TypeError for an address policy that is none.
 */
export function createHttpSource(request: HttpRequest, options: SourceOptions): ImageSource {
  const closing = new AbortController();
  let bytesRead = 0;
  const session = openSession(request, options, closing.signal, (bytes) => (bytesRead += bytes));
  const route = createRoute(session, options.succeededBefore ?? options.expected !== undefined);
  const ranges = createRangeReader(session, route);
  const pipelined = options.pipelining === false ? undefined : createPipelinedRanges(session, route, ranges);
  const probing = createProbing(session, () =>
    persistently(session, () => probeSource({ session, route, ranges }, options.expected)),
  );

  const asked = [probing];

  async function* stream(start: number): AsyncGenerator<Buffer, void, undefined> {
    const probed = await probing.probed();
    const whole = (from: number): AsyncIterable<Buffer> => streamWhole(probing, probed, from);
    if (!probed.facts.ranges || !pipelined) {
      yield* whole(start);
      return;
    }
    const readInto = (at: number, target: Uint8Array): Promise<void> =>
      pipelined.readInto(probed.facts, at, target);
    yield* streamByRanges({ session, facts: probed.facts, readInto, whole }, start);
  }

  function streamWhole(by: Probing, probed: Probed, start: number): AsyncIterable<Buffer> {
    return streamFrom({ session, route, probed, takeRest: by.takeRest }, start);
  }

  function inOneAnswer(): ImageSource {
    const once = createProbing(session, () =>
      persistently(session, () => probeWhole({ session, route, ranges })),
    );
    asked.push(once);
    return {
      probe: async () => (await once.probed()).facts,
      async *stream(start) {
        yield* streamWhole(once, await once.probed(), start);
      },
      readInto: () => Promise.reject(new Error('this source is read in order')),
      get bytesRead() {
        return bytesRead;
      },
      close: () => once.takeRest()?.close(),
    };
  }

  return {
    probe: async () => (await probing.probed()).facts,
    stream,
    inOneAnswer,
    async readInto(start, target) {
      const { facts } = await probing.probed();
      await (pipelined ?? ranges).readInto(facts, start, target);
    },
    get bytesRead() {
      return bytesRead;
    },
    close() {
      closing.abort(new Error('source is closed'));
      pipelined?.close();
      for (const { takeRest } of asked) takeRest()?.close();
      session.agents.close();
    },
  };
}

interface Probing {
  /** What the probe learnt; the first caller, and the first one after a failure, makes it. */
  readonly probed: () => Promise<Probed>;
  readonly takeRest: () => BodyReader | undefined;
}

function createProbing(session: Session, probe: () => Promise<Probed>): Probing {
  let probing: Promise<Probed> | undefined;
  let rest: BodyReader | undefined;

  async function probeNow(): Promise<Probed> {
    try {
      const probed = await probe();
      rest = probed.rest;
      return probed;
    } catch (error) {
      probing = undefined;
      throw error;
    }
  }

  return {
    async probed() {
      session.signal.throwIfAborted();
      return (probing ??= probeNow());
    },
    takeRest() {
      const taken = rest;
      rest = undefined;
      return taken;
    },
  };
}

/** What the requests of one source share, for readers that ask a server for more than the bytes of one source. */
export function openSession(
  request: HttpRequest,
  options: SourceOptions,
  closing: AbortSignal,
  received: (bytes: number) => void,
): Session {
  const origin = parseSourceUrl(request.url);
  const { entrance } = options;
  // user info is in the headers; node:http would decode it, and throw at a lone %
  const home: Entrance = { url: withoutUserInfo(origin), headers: {} };
  return {
    entrance: entrance ? (refusal) => entrance(refusal !== undefined, refusal) : () => Promise.resolve(home),
    renewable: entrance !== undefined,
    display: options.displayUrl ?? displayUrl(origin),
    headers: createOriginHeaders(request, origin),
    agents: createAgents(request, createAddressGuard(options.policy)),
    signal: AbortSignal.any([options.signal, closing]),
    stallMs: options.stallMs ?? DEFAULT_STALL_MS,
    maxReconnects: options.maxReconnects ?? DEFAULT_RECONNECTS,
    backoffMs: options.backoffMs ?? DEFAULT_BACKOFF_MS,
    notice: options.notice ?? (() => undefined),
    tolerance: { lenient: false },
    progress: { delivered: false },
    validatorsOf: options.provedByDigest ? (_, length) => validatorsOf({}, length) : validatorsOf,
    received,
  };
}
