/** The registry of `go-registry/` beside this file, built once into the cache that the local stack's tools are in. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { buildOnce, runGo } from '../../../local/go.js';
import { cacheDirectory, projectRoot } from '../../../local/paths.js';

const NAME = 'dvflow-test-registry';
const SOURCES = join(projectRoot(), 'test', 'support', 'servers', 'go-registry');
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
    await buildProgram();
  });
}

/** Starts a registry; with TLS where certificate and key are given, as files. */
export async function startRegistryServer(tls?: {
  readonly cert: string;
  readonly key: string;
}): Promise<RegistryServer> {
  const child = spawn(await buildProgram(), tls ? [tls.cert, tls.key] : [], {
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
  throw new Error(`${NAME} ended without a word`);
}

async function buildProgram(): Promise<string> {
  const hash = createHash('sha256');
  for (const file of ['go.mod', 'go.sum', 'main.go']) hash.update(readFileSync(join(SOURCES, file)));
  const log = (line: string): void => console.log(`    ${line}`);
  return await buildOnce(
    {
      name: NAME,
      path: join(cacheDirectory(), hash.digest('hex').slice(0, 16), NAME),
      description: 'the registry of the tests (once)',
      build: (directory) =>
        runGo(['build', '-v', '-trimpath', '-ldflags=-s -w', '-o', join(directory, NAME), '.'], {
          cwd: SOURCES,
          log,
        }),
    },
    log,
  );
}
