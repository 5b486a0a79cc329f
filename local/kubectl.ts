import { spawn } from 'node:child_process';
import { processEnvironment } from './environment.js';

/** What a kubectl command may be given. */
export interface KubectlOptions {
  /** Text on its standard input. */
  readonly input?: string;
  readonly signal?: AbortSignal;
  /** Added to its environment. */
  readonly env?: Readonly<Record<string, string>>;
}

/**
 * Runs kubectl and returns what it wrote to standard output.
 * @throws when it fails, with what it wrote to standard error
 */
export async function runKubectl(
  kubectl: readonly string[],
  args: readonly string[],
  { input, signal, env }: KubectlOptions = {},
): Promise<string> {
  const [file = '', ...leading] = kubectl;
  const child = spawn(file, [...leading, ...args], {
    env: { ...processEnvironment(), ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
    ...(signal ? { signal } : {}),
  });
  const output: Buffer[] = [];
  const errors: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => output.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => errors.push(chunk));
  // A command that reads no input closes the pipe; its exit code says whether that mattered.
  child.stdin.on('error', () => undefined);
  child.stdin.end(input ?? '');
  const code = await new Promise<number | null>((ended, failed) => {
    child.once('error', failed);
    child.once('close', ended);
  });
  if (code === 0) return Buffer.concat(output).toString();
  throw new Error(
    `kubectl ${args.join(' ')}: ${Buffer.concat(errors).toString().trim() || `ended with ${code}`}`,
  );
}
