import type { ChildProcess, SpawnOptions } from 'node:child_process';
import type { Owner } from '../node/directories.js';

const STDERR_TAIL = 2048;

/** Loaded with the first tool: most images need none. */
const start = (file: string, args: readonly string[], options: SpawnOptions): ChildProcess =>
  process.getBuiltinModule('node:child_process').spawn(file, args, options);

/** How a tool is run. */
export interface ToolOptions {
  /** Descriptors that the tool gets as 3, 4, …. */
  readonly fds?: readonly number[];
  readonly signal?: AbortSignal;
  /** Who the tool runs as. @default whoever calls */
  readonly user?: Owner | undefined;
}

/** Runs a tool to its end, without a shell; the error of one that fails carries its name, code and the tail of what it said. */
export async function runTool(
  file: string,
  args: readonly string[],
  { fds = [], signal, user }: ToolOptions = {},
): Promise<void> {
  const child = start(file, args, {
    stdio: ['ignore', 'ignore', 'pipe', ...fds],
    ...(signal ? { signal } : {}),
    ...user,
  });
  let stderr = '';
  child.stderr?.on('data', (chunk: Buffer) => (stderr = (stderr + chunk.toString()).slice(-STDERR_TAIL)));
  const code = await endOf(child);
  if (code !== 0) throw new ToolError(file, code, stderr.trim());
}

/** Runs a tool as {@link runTool} does, to what it prints on its standard output. */
export async function readTool(
  file: string,
  args: readonly string[],
  { fds = [] }: Pick<ToolOptions, 'fds'> = {},
): Promise<string> {
  const child = start(file, args, { stdio: ['ignore', 'pipe', 'pipe', ...fds] });
  let stdout = '';
  let stderr = '';
  child.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (stderr = (stderr + chunk.toString()).slice(-STDERR_TAIL)));
  const code = await endOf(child);
  if (code !== 0) throw new ToolError(file, code, stderr.trim());
  return stdout;
}

/** Resolves to the code of a tool that has ended. One that is cancelled works on until it is gone, with what it has open. */
async function endOf(child: ChildProcess): Promise<number | null> {
  let failure: Error | undefined;
  child.once('error', (error) => (failure = error));
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  if (failure) throw failure;
  return code;
}

/** A tool ended with another code than 0. */
export class ToolError extends Error {
  override readonly name = 'ToolError';
  readonly code: number | null;
  readonly stderr: string;
  constructor(file: string, code: number | null, stderr: string) {
    super(`${file} ended with code ${code}${stderr === '' ? '' : `: ${stderr}`}`);
    this.code = code;
    this.stderr = stderr;
  }
}
