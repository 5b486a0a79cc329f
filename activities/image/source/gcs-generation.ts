import type { ApplicationFailure } from '@temporalio/common';
import { failureTypeOf, permanentFailure } from '../../failures.js';
import { changed, statusFailure } from './http-failures.js';
import type { SmallAnswer, SmallRequest } from './small-request.js';

/** One generation of an object: bytes that never change. */
export interface Generation {
  /** Of its bytes. */
  readonly url: URL;
  readonly number: string;
  /** Stored with `Content-Encoding: gzip`: decompressed on the way, without length and ranges, unless gzip is asked for. */
  readonly isGzip: boolean;
}

/** What a generation is found with. */
export interface GenerationMeans {
  /** Of the object's metadata. */
  readonly url: URL;
  readonly display: string;
  readonly send: (request: SmallRequest) => Promise<SmallAnswer>;
  readonly authorize: () => Promise<Readonly<Record<string, string>>>;
}

/** The generation that one source reads. */
export interface PinnedGeneration {
  /** The one that the object has when this is first asked for. */
  get(): Promise<Generation>;
  /** A generation that is gone was replaced, if the object has another one now: what was thrown, or that. */
  explain(error: unknown): Promise<unknown>;
}

/** Finds the generation of an object and stays with it. */
export function createPinnedGeneration(means: GenerationMeans): PinnedGeneration {
  let pinning: Promise<Generation> | undefined;

  async function get(): Promise<Generation> {
    pinning ??= readGeneration(means);
    // a failure is asked for again, not kept
    pinning.catch(() => (pinning = undefined));
    return await pinning;
  }

  async function explain(error: unknown): Promise<unknown> {
    if (!pinning || failureTypeOf(error) !== 'SourceNotFound') return error;
    const before = await pinning;
    const now = await readGeneration(means).catch(() => before);
    if (now.number === before.number) return error;
    return replaced(means.display, before, now);
  }

  return { get, explain };
}

function replaced(display: string, before: Generation, now: Generation): ApplicationFailure {
  return changed(display, `generation was ${before.number}, is ${now.number}`);
}

async function readGeneration({ url, display, send, authorize }: GenerationMeans): Promise<Generation> {
  const asked = new URL(url);
  asked.search = 'fields=generation,contentEncoding';
  const answer = await send({
    url: asked,
    headers: { accept: 'application/json', ...(await authorize()) },
    display,
  });
  if (answer.status !== 200) throw statusFailure(answer, display);
  const { generation, contentEncoding } = fieldsOf(answer.text);
  if (typeof generation !== 'string' || !/^\d{1,20}$/u.test(generation)) {
    const text = `GET ${display}: server does not speak the JSON interface of Google Cloud Storage`;
    throw permanentFailure('UnsupportedSource', text);
  }
  const media = new URL(url);
  media.search = `alt=media&generation=${generation}`;
  return { url: media, number: generation, isGzip: contentEncoding === 'gzip' };
}

function fieldsOf(text: string): { readonly generation?: unknown; readonly contentEncoding?: unknown } {
  try {
    return Object(JSON.parse(text)) as object;
  } catch {
    return {};
  }
}
