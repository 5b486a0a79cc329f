/** A volume's files as a tar archive (POSIX.1-2017 `pax`, sparse files as GNU tar's format 1.0), made while it is read. */
import type { FileHandle } from 'node:fs/promises';
import { transientFailure } from '../../failures.js';
import type { Place } from '../../node/place.js';
import { shown } from '../../node/place.js';
import { BLOCK } from '../archive/tar-header.js';
import { dataStretches, MOST_STRETCHES } from './kernel.js';
import { fileState } from './state.js';
import { beginTreeState, findTreeState } from './tree-state.js';
import { walkTree, type LeftOut, type TreeEntry } from './tree.js';

/** Bytes that are read at once. */
const PIECE = 1024 * 1024;
/** A reader that waits for the last look at the tree is sent padding, in ms. */
const PADDING_MS = 5_000;
const TYPES = { file: '0', link: '1', symlink: '2', directory: '5', extended: 'x' } as const;

/**
 * Reads the tree and yields the archive; returns the state of the tree. Names, targets, modes and times are kept; owners are those of
 * whoever unpacks.
 * @throws {@link FailureType} as `walkTree`; `SourceChanged` for a file or directory that is not what it was when it was read
 */
export async function* packTree(
  root: Place,
  left: LeftOut,
  signal: AbortSignal,
): AsyncGenerator<Buffer, string> {
  const state = await beginTreeState(root);
  for await (const entry of walkTree(root, left)) {
    signal.throwIfAborted();
    state.add(entry);
    if (entry.kind !== 'file' || entry.sameAs !== undefined) yield* headers(entry, { size: 0 });
    else yield* packFile(entry, signal);
  }
  yield Buffer.alloc(2 * BLOCK);
  const packed = state.digest();
  if ((yield* lookAgain(root, signal)) !== packed)
    throw transientFailure(
      'SourceChanged',
      'source changed: its files were written to while they were cloned',
    );
  return packed;
}

/** What was read first may have been written to while the rest was read. */
async function* lookAgain(root: Place, signal: AbortSignal): AsyncGenerator<Buffer, string> {
  const looking = findTreeState(root, signal);
  let said = performance.now();
  try {
    for (;;) {
      const next = await looking.next();
      if (next.done) return next.value;
      if (performance.now() - said < PADDING_MS) continue;
      yield Buffer.alloc(BLOCK);
      said = performance.now();
    }
  } finally {
    await looking.return('');
  }
}

async function* packFile(entry: TreeEntry, signal: AbortSignal): AsyncGenerator<Buffer> {
  await using file = await entry.open();
  await assertSame(file, entry);
  const size = Number(entry.found.size);
  const found = await dataStretches(file.fd, 0, size);
  // more than the map of a sparse file should have are sent as one
  const stretches = found.length < MOST_STRETCHES ? found : [{ start: 0, end: size }];
  const dense = stretches.length === 1 && stretches[0]?.start === 0 && stretches[0].end === size;
  const map = dense || size === 0 ? Buffer.alloc(0) : sparseMap(stretches, size);
  const stored = stretches.reduce((sum, { start, end }) => sum + end - start, 0) + map.length;
  yield* headers(entry, { size: stored, ...(map.length > 0 ? { realSize: size } : {}) });
  if (map.length > 0) yield map;
  for (const { start, end } of stretches) yield* piecesOf(file, { start, end, entry, signal });
  await assertSame(file, entry);
  yield Buffer.alloc((BLOCK - (stored % BLOCK)) % BLOCK);
}

/** Said soon: reading the rest would be in vain. */
async function assertSame(file: FileHandle, { path, found }: TreeEntry): Promise<void> {
  if (fileState(await file.stat({ bigint: true })) === fileState(found)) return;
  throw transientFailure(
    'SourceChanged',
    `source changed: ${shown(path)} was written to while it was cloned`,
  );
}

async function* piecesOf(
  file: FileHandle,
  {
    start,
    end,
    entry,
    signal,
  }: {
    readonly start: number;
    readonly end: number;
    readonly entry: TreeEntry;
    readonly signal: AbortSignal;
  },
): AsyncGenerator<Buffer> {
  for (let at = start; at < end;) {
    signal.throwIfAborted();
    const piece = Buffer.allocUnsafeSlow(Math.min(PIECE, end - at));
    const { bytesRead } = await file.read(piece, 0, piece.length, at);
    if (bytesRead === 0)
      throw transientFailure(
        'SourceChanged',
        `source changed: ${shown(entry.path)} became shorter while it was read`,
      );
    at += bytesRead;
    yield piece.subarray(0, bytesRead);
  }
}

/** Decimal lines: how many stretches, then offset and length of each; an empty one at the end tells the size. */
function sparseMap(
  stretches: readonly { readonly start: number; readonly end: number }[],
  size: number,
): Buffer {
  const all = stretches.at(-1)?.end === size ? stretches : [...stretches, { start: size, end: size }];
  const lines = [all.length, ...all.flatMap(({ start, end }) => [start, end - start])];
  const text = Buffer.from(lines.map((line) => `${line}\n`).join(''));
  return Buffer.concat([text, Buffer.alloc((BLOCK - (text.length % BLOCK)) % BLOCK)]);
}

/** The entry's header, after an extended one that says what its fields are too short for. */
function* headers(
  entry: TreeEntry,
  { size, realSize }: { size: number; realSize?: number },
): Generator<Buffer> {
  const { kind, target, sameAs, found } = entry;
  const name = bytes(kind === 'directory' ? `${entry.path}/` : entry.path);
  const link = sameAs === undefined ? (target ?? Buffer.alloc(0)) : bytes(sameAs);
  const records = [
    record(realSize === undefined ? 'path' : 'GNU.sparse.name', name),
    ...(link.length > 0 ? [record('linkpath', link)] : []),
    record('mtime', bytes(seconds(found.mtimeNs))),
    record('size', bytes(`${size}`)),
    ...(realSize === undefined
      ? []
      : [
          record('GNU.sparse.major', bytes('1')),
          record('GNU.sparse.minor', bytes('0')),
          record('GNU.sparse.realsize', bytes(`${realSize}`)),
        ]),
  ];
  const body = Buffer.concat(records);
  yield header({ type: TYPES.extended, name: bytes('pax'), size: body.length, mode: 0o644, mtime: 0 });
  yield body;
  yield Buffer.alloc((BLOCK - (body.length % BLOCK)) % BLOCK);
  const type = sameAs === undefined ? TYPES[kind] : TYPES.link;
  const mtime = Number(found.mtimeNs / 1_000_000_000n);
  // sizes that the field cannot hold are in the record
  yield header({ type, name: name.subarray(0, 100), size, mode: Number(found.mode) & 0o7777, mtime });
}

function bytes(latin1: string): Buffer {
  return Buffer.from(latin1, 'latin1');
}

function seconds(ns: bigint): string {
  const sign = ns < 0n ? '-' : '';
  const positive = ns < 0n ? -ns : ns;
  return `${sign}${positive / 1_000_000_000n}.${String(positive % 1_000_000_000n).padStart(9, '0')}`;
}

/** `<length> <keyword>=<value>\n`, whose length counts its own digits. */
function record(keyword: string, value: Buffer): Buffer {
  const rest = keyword.length + value.length + 3;
  let length = rest + String(rest).length;
  if (rest + String(length).length !== length) length = rest + String(length).length;
  return Buffer.concat([Buffer.from(`${length} ${keyword}=`), value, Buffer.from('\n')]);
}

interface HeaderFields {
  readonly type: string;
  readonly name: Buffer;
  readonly size: number;
  readonly mode: number;
  readonly mtime: number;
}

/** POSIX.1-2017 `pax`, "ustar Interchange Format". */
function header({ type, name, size, mode, mtime }: HeaderFields): Buffer {
  const block = Buffer.alloc(BLOCK);
  name.copy(block, 0);
  octal(block, mode, [100, 8]);
  octal(block, 0, [108, 8]);
  octal(block, 0, [116, 8]);
  octal(block, size, [124, 12]);
  octal(block, Math.max(0, mtime), [136, 12]);
  block.fill(' ', 148, 156);
  block.write(type, 156, 'latin1');
  block.write('ustar\x0000', 257, 'latin1');
  octal(
    block,
    block.reduce((sum, byte) => sum + byte, 0),
    [148, 8],
  );
  return block;
}

function octal(block: Buffer, value: number, [start, length]: readonly [number, number]): void {
  const text = value.toString(8);
  block.write((text.length < length ? text : '0').padStart(length - 1, '0'), start, 'latin1');
}
