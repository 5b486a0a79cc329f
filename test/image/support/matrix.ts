/** The support matrix of the documents, and how a file of each of its rows is made. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { qemuImg } from './images.js';

const TABLE = new URL('../support-matrix.csv', import.meta.url);
const COLUMNS = 'content_type,endpoint,format,compression,supported,scratch,block_dv,note';

/** One row, its columns by name. */
export type Row = Readonly<Record<string, string>>;

/** The rows of the file. */
export function rows(): readonly Row[] {
  const [header = '', ...lines] = readFileSync(TABLE, 'utf8').trim().split('\n');
  assert.equal(header, COLUMNS);
  const names = header.split(',');
  return lines.map((line) => {
    const values = line.split(',');
    return Object.fromEntries(names.map((name, index) => [name, values[index] ?? '']));
  });
}

/** How the file of a row is made of a disk or of a directory. */
export const FORMATS: Readonly<Record<string, (from: { raw: string; tree: string }, path: string) => void>> =
  {
    raw: ({ raw }, path) => void execFileSync('cp', [raw, path]),
    qcow2: ({ raw }, path) => void qemuImg('convert', '-f', 'raw', '-O', 'qcow2', raw, path),
    tar: ({ tree }, path) => void execFileSync('tar', ['--create', '--file', path, '--directory', tree, '.']),
  };

/** How it is compressed; the path of the result. */
export const COMPRESSIONS: Readonly<Record<string, (path: string) => string>> = {
  none: (path) => path,
  gz: (path) => (execFileSync('gzip', ['-1', '-k', '-f', path]), `${path}.gz`),
  xz: (path) => (execFileSync('xz', ['-0', '-k', '-f', path]), `${path}.xz`),
};

/** What of a row a test knows how to try; a row with something new in it fails. */
export function known<T>(table: Readonly<Record<string, T>>, row: Row, column: string): T {
  const found = table[row[column] ?? ''];
  assert.ok(found !== undefined, `${column} ${row[column]} is new: nobody tries it`);
  return found;
}
