import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildOnce, runGo } from '../../../local/go.js';
import { cacheDirectory, projectRoot } from '../../../local/paths.js';

/** A program of the tests in Go: `go.mod`, `go.sum` and `main.go` in a directory beside this file. */
export interface GoProgram {
  readonly name: string;
  readonly directory: string;
  readonly description: string;
}

/** Builds it once into the cache that the local stack's tools are in; resolves to its path. */
export async function buildGoProgram({ name, directory, description }: GoProgram): Promise<string> {
  const cwd = join(projectRoot(), 'test', 'support', 'servers', directory);
  const hash = createHash('sha256');
  for (const file of ['go.mod', 'go.sum', 'main.go']) hash.update(readFileSync(join(cwd, file)));
  const log = (line: string): void => console.log(`    ${line}`);
  return await buildOnce(
    {
      name,
      path: join(cacheDirectory(), hash.digest('hex').slice(0, 16), name),
      description,
      build: (into) =>
        runGo(['build', '-v', '-trimpath', '-ldflags=-s -w', '-o', join(into, name), '.'], { cwd, log }),
    },
    log,
  );
}
