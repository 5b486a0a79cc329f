/** Servers and oracles written in Go (`go/` beside this file), built once into the cache that the local stack's tools are in. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { buildGoProgram } from './go-program.js';

const PROGRAM = {
  name: 'dvflow-test-servers',
  directory: 'go',
  description: 'the S3 and GCS servers of the tests (once; some minutes)',
};

/** From nothing, beside everything else that a test run does. */
const BUILD_MS = 900_000;

/** A server in a process of its own. */
export interface GoServer {
  /** `http://127.0.0.1:port` */
  readonly url: string;
  end(): Promise<void>;
}

/** Builds the program before the tests of a suite. Called in the body of `describe`. */
export function useGoProgram(): void {
  before('build the test servers', async function () {
    this.timeout(BUILD_MS);
    await buildGoProgram(PROGRAM);
  });
}

/** Starts an object store of memory: `s3` or `gcs`. It verifies no credentials. */
export async function startGoServer(kind: 's3' | 'gcs'): Promise<GoServer> {
  const child = spawn(await buildGoProgram(PROGRAM), [kind], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(child, 'exit');
  const url = await firstLine(child);
  return {
    url,
    async end() {
      // it ends with its input, like it would if this process were killed
      child.stdin?.end();
      await ended;
    },
  };
}

/** A question to Go's `golang.org/x/net/http/httpproxy`. */
export interface ProxyQuestion {
  readonly http: string;
  readonly https: string;
  readonly noProxy: string;
  readonly url: string;
}

/** By which proxy Go would go, for each question; `''` for none. */
export async function askGoForProxies(questions: readonly ProxyQuestion[]): Promise<string[]> {
  const child = spawn(await buildGoProgram(PROGRAM), ['proxy-rules'], { stdio: ['pipe', 'pipe', 'inherit'] });
  child.stdin.end(questions.map((question) => `${JSON.stringify(question)}\n`).join(''));
  const answers: string[] = [];
  for await (const line of createInterface({ input: child.stdout })) answers.push(line);
  return answers;
}

async function firstLine(child: ChildProcess): Promise<string> {
  if (!child.stdout) throw new Error('the output of the server is not piped');
  for await (const line of createInterface({ input: child.stdout })) return line;
  throw new Error(`${child.spawnargs.join(' ')} ended without a word`);
}
