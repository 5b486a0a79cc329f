import { fsync } from 'node:fs';
import { chmod, stat } from 'node:fs/promises';
import { promisify } from 'node:util';
import { codeOf } from '../../node/directories.js';
import { itself, type Place } from '../../node/place.js';
import { shownName } from '../../shown-name.js';
import { orNoSpace } from '../no-space.js';
import { hostile, unsupported } from '../refusals.js';
import type { TargetSize } from '../size.js';
import type { SourceNotice } from '../source/types.js';
import { runTool } from '../tools.js';
import { readTar, type TarEntry } from './tar-reader.js';
import { createBudget } from './unpack-budget.js';
import { emptyVolume, LOST_AND_FOUND } from './unpack-empty.js';
import { linkFile, makeSymlink, writeFile, type Making } from './unpack-entries.js';
import { createLimits, MAX_ENTRIES } from './unpack-limits.js';
import { pathOf, type Path } from './unpack-names.js';
import { clearForDirectory, createPlaces, setTime, type Attributes, type Places } from './unpack-places.js';

const sync = promisify(fsync);

/** What a file system says to what it does not have: names, sizes, numbers of links. */
const REFUSALS: ReadonlySet<unknown> = new Set([
  'EFBIG',
  'EILSEQ',
  'EINVAL',
  'EMLINK',
  'ENAMETOOLONG',
  'ENOTSUP',
  'EOPNOTSUPP',
]);

/** What an archive is unpacked with. */
export interface UnpackOptions {
  readonly signal: AbortSignal;
  /** `usableBytes` bounds what is written: data in blocks of 4 KiB, and 4 KiB a directory or long symbolic link. */
  readonly size: TargetSize;
  readonly notice?: SourceNotice;
  /** Told the bytes of data written so far, after each write. */
  readonly onProgress?: (bytesWritten: number) => void;
  /** @default 1_000_000 */
  readonly maxEntries?: number;
}

/** What was unpacked. */
export interface Unpacked {
  readonly entries: number;
  /** Bytes of data written; holes are not. */
  readonly bytes: number;
}

/**
 * Unpacks a tar archive into an empty volume as CDI's `tar --preserve-permissions --no-same-owner -x` does: everything belongs to
 * this process's user, modes (set-user-ID, set-group-ID and sticky bit too) and times are the archive's, `./` describes the
 * volume's root, a leading `/` is taken away, what comes again replaces, sparse files stay sparse. Unlike it, whatever would lead
 * out of the volume is refused, devices and FIFOs are, and nothing is written through a symbolic link. What the volume held
 * before is removed first, so that a later attempt begins anew. Everything is on stable storage when it resolves.
 * @throws {@link FailureType} `ImageInvalid`, `ImageHostile`, `UnsupportedFormat`, `LargerPVCRequired`, `ResourceExists` (something
 * is mounted in the volume); retried: `NoSpace`
 */
export async function unpackTar(
  bytes: AsyncIterable<Buffer>,
  target: Place,
  options: UnpackOptions,
): Promise<Unpacked> {
  const { signal, notice, maxEntries = MAX_ENTRIES } = options;
  const { dev: device } = await stat(itself(target), { bigint: true });
  await emptyVolume(target, { device, signal });
  const limits = createLimits(maxEntries);
  const budget = createBudget(options);
  const chain = { device, onVisit: () => limits.addVisit() };
  const here = createPlaces(target, { ...chain, create: true, onMade: () => budget.addBlock() });
  const sources = createPlaces(target, { ...chain, create: false });
  const sayStripped = createStripNotice(notice);
  let root: Attributes | undefined;
  let entries = 0;
  try {
    for await (const entry of readTar(
      limits.bounded(bytes, () => budget.bytes),
      options,
    )) {
      signal.throwIfAborted();
      limits.addEntry();
      entries += 1;
      const path = pathOf(entry);
      sayStripped(entry);
      if (path.length === 0) root = rootOf(entry);
      else await orRefused(entry, unpackEntry(entry, path, { here, sources, budget, signal }));
    }
    await orNoSpace(here.leave());
  } finally {
    await Promise.all([here.abandon(), sources.abandon()]);
  }
  await settle(target, root, signal);
  return { entries, bytes: budget.bytes };
}

/** Says once that leading slashes are taken away. */
function createStripNotice(notice: SourceNotice | undefined): (entry: TarEntry) => void {
  let said = false;
  return ({ name }) => {
    if (said || !name.startsWith('/')) return;
    said = true;
    notice?.(`leading '/' is taken away from names, first from ${shownName(name)}`);
  };
}

/** A full file system is waited for; an entry that it cannot take is refused. */
async function orRefused(entry: TarEntry, work: Promise<void>): Promise<void> {
  try {
    await orNoSpace(work);
  } catch (error) {
    const code = codeOf(error);
    if (!REFUSALS.has(code)) throw error;
    throw unsupported(
      `the volume's file system does not take tar entry ${shownName(entry.name)} of ${entry.size} bytes (${String(code)})`,
    );
  }
}

function rootOf({ name, type, mode, mtime }: TarEntry): Attributes {
  if (type !== 'directory') throw hostile(`tar entry ${shownName(name)} would replace the volume's root`);
  return { mode, mtime };
}

async function unpackEntry(
  entry: TarEntry,
  path: Path,
  making: Making & { readonly here: Places },
): Promise<void> {
  const { type, typeflag, mode, mtime } = entry;
  const { here } = making;
  const shown = shownName(entry.name);
  if (path[0] === LOST_AND_FOUND) return skipLostAndFound(entry, path);
  const at = async () => ({ parent: await here.enter(path.slice(0, -1)), name: path.at(-1) ?? '', path });
  switch (type) {
    case 'directory': {
      const { parent, name } = await at();
      await clearForDirectory(parent, name);
      return await here.describe(path, { mode, mtime });
    }
    case 'file':
      return await writeFile(entry, await at(), making);
    case 'symlink':
      return await makeSymlink(entry, await at(), making);
    case 'hardlink':
      return await linkFile(entry, await at(), making);
    case 'character':
    case 'block':
      throw hostile(`tar entry ${shown} is a ${type} device`);
    case 'fifo':
      throw hostile(`tar entry ${shown} is a FIFO`);
    case 'other':
      throw unsupported(`tar entry ${shown} is of type ${shownName(typeflag)}`);
  }
}

/** The file system's own: it is neither made, changed nor filled. */
function skipLostAndFound({ name, type }: TarEntry, path: Path): void {
  if (type === 'directory' && path.length === 1) return;
  throw unsupported(`tar entry ${shownName(name)} lies in ${LOST_AND_FOUND}, which is the file system's own`);
}

/** Everything goes to stable storage; the root's own mode comes last, as it may forbid to open it once more. */
async function settle(target: Place, root: Attributes | undefined, signal: AbortSignal): Promise<void> {
  await runTool('sync', ['--file-system', '/proc/self/fd/3'], { fds: [target.fd], signal });
  if (!root) return;
  await setTime(itself(target), root.mtime);
  await chmod(itself(target), root.mode);
  await sync(target.fd);
}
