import { createRequire } from 'node:module';
import { ReadableStream } from 'node:stream/web';
import type * as xzDecompress from 'xz-decompress';
import { invalid, unsupported } from '../refusals.js';

/** Codes of XZ Embedded that mean "this build cannot", not "the file is bad": dictionary, filter or check. */
const BEYOND_THIS_BUILD = /\b(?:code|error)[^0-9]*(?:4|6)\b/i;

/** Decompresses xz without the tool: half its speed, on this thread, dictionaries to 64 MiB. */
export async function* xzWithoutTool(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  // CommonJS without named exports, and only wanted where the tool is missing
  const { XzReadableStream } = createRequire(import.meta.url)('xz-decompress') as typeof xzDecompress;
  let sourceError: { error: unknown } | undefined;
  async function* guarded(): AsyncGenerator<Buffer> {
    try {
      yield* source;
    } catch (error) {
      sourceError = { error };
      throw error;
    }
  }
  const input = ReadableStream.from(guarded());
  const output = new XzReadableStream(input) as unknown as AsyncIterable<Uint8Array>;
  try {
    for await (const chunk of output) yield Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  } catch (error) {
    if (sourceError) throw sourceError.error;
    const said = error instanceof Error ? error.message : String(error);
    if (BEYOND_THIS_BUILD.test(said))
      throw unsupported(`xz stream needs the xz tool, which is not installed: ${said}`);
    throw invalid(`xz stream is damaged or cut short: ${said}`, error);
  }
}
