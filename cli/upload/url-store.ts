import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Where the address of one unfinished upload is kept. */
export interface UrlStore {
  read(): string | undefined;
  /** `null` forgets it. */
  write(url: string | null): void;
}

/**
 * Keeps the addresses of unfinished uploads, a file for each, so that the same command goes on. Two commands for one file and claim
 * would send the same bytes: the newer one is remembered.
 */
export function createUrlStore(directory: string, fingerprint: string): UrlStore {
  const name = createHash('sha256').update(fingerprint).digest('hex').slice(0, 32);
  const path = join(directory, `${name}.json`);
  return {
    read() {
      try {
        const { uploadUrl } = JSON.parse(readFileSync(path, 'utf8')) as { readonly uploadUrl?: unknown };
        return typeof uploadUrl === 'string' ? uploadUrl : undefined;
      } catch {
        // none, or one that was cut off by an end of the machine
        return undefined;
      }
    },
    write(url) {
      if (url === null) return rmSync(path, { force: true });
      mkdirSync(directory, { recursive: true, mode: 0o700 });
      writeFileSync(`${path}.new`, JSON.stringify({ uploadUrl: url }), { mode: 0o600 });
      renameSync(`${path}.new`, path);
    },
  };
}
