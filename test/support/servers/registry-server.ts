/** The registry of `go-registry/` beside this file, built once into the cache that the local stack's tools are in. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { buildGoProgram } from './go-program.js';

const PROGRAM = {
  name: 'dvflow-test-registry',
  directory: 'go-registry',
  description: 'the registry of the tests (once)',
};
const BUILD_MS = 300_000;

/** A registry in a process of its own, empty at its start. */
export interface RegistryServer {
  /** `127.0.0.1:port` */
  readonly host: string;
  readonly port: number;
  end(): Promise<void>;
}

/** Builds the registry before the tests of a suite. Called in the body of `describe`. */
export function useRegistryProgram(): void {
  before('build the test registry', async function () {
    this.timeout(BUILD_MS);
    await buildGoProgram(PROGRAM);
  });
}

/** Starts a registry; with TLS where certificate and key are given, as files. */
export async function startRegistryServer(tls?: {
  readonly cert: string;
  readonly key: string;
}): Promise<RegistryServer> {
  const child = spawn(await buildGoProgram(PROGRAM), tls ? [tls.cert, tls.key] : [], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit');
  for await (const line of createInterface({ input: child.stdout })) {
    return {
      host: line,
      port: Number(line.split(':')[1]),
      async end() {
        child.stdin.end();
        await ended;
      },
    };
  }
  throw new Error(`${PROGRAM.name} ended without a word`);
}
