import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { PreviousUpload, UrlStorage } from 'tus-js-client';

/**
 * Keeps the addresses of unfinished uploads, a file for each, so that the same command goes on. Two commands for one file and claim
 * would send the same bytes: the newer one is remembered.
 */
export function createUrlStore(directory: string): UrlStorage {
  const pathOf = (fingerprint: string): string =>
    join(directory, `${createHash('sha256').update(fingerprint).digest('hex').slice(0, 32)}.json`);
  return {
    // nobody lists them
    findAllUploads: async () => [],
    async findUploadsByFingerprint(fingerprint) {
      const found = read(pathOf(fingerprint));
      return found ? [found] : [];
    },
    async addUpload(fingerprint, upload) {
      const path = pathOf(fingerprint);
      mkdirSync(directory, { recursive: true, mode: 0o700 });
      writeFileSync(`${path}.new`, JSON.stringify({ ...upload, urlStorageKey: path }), { mode: 0o600 });
      renameSync(`${path}.new`, path);
      return path;
    },
    async removeUpload(path) {
      rmSync(path, { force: true });
    },
  };
}

function read(path: string): PreviousUpload | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as PreviousUpload;
  } catch {
    // none, or one that was cut off by an end of the machine
    return undefined;
  }
}
