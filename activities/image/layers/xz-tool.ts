import { spawn, type ChildProcess } from 'node:child_process';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { transientFailure, type ApplicationFailure } from '../../failures.js';
import { invalid, unsupported } from '../refusals.js';
import { xzWithoutTool } from './xz-wasm.js';

/** Memory that several decoder threads may use together; beyond it xz decodes with one. In bytes. */
const THREADED_MEMORY = 64 * 1024 * 1024;
/** A dictionary of the largest preset takes 65 MiB; the format allows 4 GiB, which whoever made the file would decide. In bytes. */
export const MOST_MEMORY = 160 * 1024 * 1024;
const STDERR_TAIL = 2048;

/** How to run the tool. */
export interface XzOptions {
  /** @default 'xz' */
  readonly tool?: string;
  /** Decoder threads; 0 is one a core. @default 0 */
  readonly threads?: number;
}

/**
 * Decompresses xz, all blocks, streams and padding, with the `xz` tool as a child, or in WebAssembly where it is not installed.
 * @throws {@link FailureType} `ImageInvalid` where the stream is damaged or cut short, with what the tool said; `UnsupportedFormat`
 * where it takes too much memory
 */
export async function* unxz(
  source: AsyncIterable<Buffer>,
  { tool = 'xz', threads = 0 }: XzOptions = {},
): AsyncGenerator<Buffer> {
  const args = [
    '--decompress',
    '--stdout',
    '--format=xz',
    `--threads=${threads}`,
    `--memlimit-decompress=${MOST_MEMORY}`,
    `--memlimit-mt-decompress=${THREADED_MEMORY}`,
  ];
  // a group of its own: Ctrl-C goes to the whole group of a terminal, and would look like a tool that was killed
  const child = spawn(tool, args, { stdio: ['pipe', 'pipe', 'pipe'], detached: true });
  let stderr = '';
  const started = spawned(child);
  // without descriptors left there are no streams either, and the error comes later
  started.catch(() => undefined);
  child.stderr?.on('data', (chunk: Buffer) => (stderr = (stderr + chunk.toString()).slice(-STDERR_TAIL)));
  const ended = new Promise<Ending>((resolve) =>
    child.once('close', (code, killer) => resolve({ code, killer })),
  );
  try {
    await started;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    yield* xzWithoutTool(source);
    return;
  }
  const fed = feed(source, child.stdin);
  // a source that fails must not be taken for the end of the file: no byte is handed on after it
  let sourceError: { error: unknown } | undefined;
  fed.catch((error: unknown) => {
    if (isBrokenPipe(error)) return;
    sourceError = { error };
    child.kill('SIGKILL');
  });
  try {
    for await (const chunk of child.stdout) yield chunk as Buffer;
    const ending = await ended;
    await fed.catch(() => undefined);
    if (sourceError) throw sourceError.error;
    judge(ending, stderr.trim());
  } finally {
    child.kill('SIGKILL');
  }
}

/** How the tool ended. */
interface Ending {
  readonly code: number | null;
  readonly killer: NodeJS.Signals | null;
}

/** A tool that was killed says nothing about the stream, one that gave up does. */
function judge({ code, killer }: Ending, stderr: string): void {
  if (killer) throw transientFailure('NodeUnavailable', `xz was ended by ${killer} (out of memory?)`);
  if (code !== 0 && /memory usage limit/iu.test(stderr)) throw tooMuchMemory();
  if (code !== 0)
    throw invalid(`xz stream is damaged or cut short: ${stderr || `xz ended with code ${code}`}`);
}

/** @returns `UnsupportedFormat` of a dictionary that takes more than {@link MOST_MEMORY} */
export function tooMuchMemory(): ApplicationFailure {
  return unsupported(
    `xz stream needs more than ${MOST_MEMORY} bytes of memory: compress it with a smaller dictionary`,
  );
}

async function feed(source: AsyncIterable<Buffer>, stdin: NodeJS.WritableStream): Promise<void> {
  await pipeline(Readable.from(source, { objectMode: false, highWaterMark: 1024 * 1024 }), stdin);
}

async function spawned(child: ChildProcess): Promise<void> {
  await new Promise((resolve, reject) => child.once('spawn', resolve).once('error', reject));
}

/** The tool stopped reading (damaged input): its exit code says why. */
function isBrokenPipe(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'EPIPE' || code === 'ECONNRESET' || code === 'ERR_STREAM_PREMATURE_CLOSE';
}
