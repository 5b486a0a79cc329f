import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** An upload that has been begun, and of what. */
export interface BegunUpload {
  /** Where it goes on. */
  readonly uploadUrl: string;
  /** Version of the file: what has arrived is of no other one. */
  readonly version: string;
  /** `algorithm:hex` that is verified at its end. */
  readonly checksum?: string;
  /** All of it has arrived, is verified and synced, by the server's own word. */
  readonly sent?: boolean;
}

/** Where one begun upload is remembered. */
export interface BegunUploadStore {
  read(): BegunUpload | undefined;
  /** `null` forgets it. */
  write(begun: BegunUpload | null): void;
}

/**
 * Remembers begun uploads in `directory`, a file for each, so that the same command goes on. Two commands for one file and target
 * would send the same bytes: the newer one is remembered.
 */
export function createBegunUploadStore(
  directory: string,
  { target, path }: { readonly target: string; readonly path: string },
): BegunUploadStore {
  const name = createHash('sha256').update(`${target} ${path}`).digest('hex').slice(0, 32);
  const file = join(directory, `${name}.json`);
  return {
    read() {
      try {
        return begunOf(JSON.parse(readFileSync(file, 'utf8')));
      } catch {
        // none, or one that was cut off by an end of the machine
        return undefined;
      }
    },
    write(begun) {
      if (begun === null) return rmSync(file, { force: true });
      mkdirSync(directory, { recursive: true, mode: 0o700 });
      writeFileSync(`${file}.new`, JSON.stringify(begun), { mode: 0o600 });
      renameSync(`${file}.new`, file);
    },
  };
}

function begunOf(value: unknown): BegunUpload | undefined {
  const { uploadUrl, version, checksum, sent } = value as Partial<Record<keyof BegunUpload, unknown>>;
  if (typeof uploadUrl !== 'string' || typeof version !== 'string') return undefined;
  return {
    uploadUrl,
    version,
    ...(typeof checksum === 'string' ? { checksum } : {}),
    ...(sent === true ? { sent } : {}),
  };
}
