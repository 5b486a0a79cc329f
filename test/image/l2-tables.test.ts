import assert from 'node:assert/strict';
import type { Qcow2Header } from '../../activities/image/formats/qcow2/header.js';
import { createL2Tables, type L1Table } from '../../activities/image/formats/qcow2/tables.js';
import type { ImageSource } from '../../activities/image/source/types.js';

const CLUSTER = 512;
const FILE = Buffer.alloc(2 * 1024 * 1024, 'every table is another one ');

describe('L2 tables of small clusters', () => {
  /** Loads the tables at these offsets from a source that answers nothing before it was asked for `requests`. */
  async function load(offsets: readonly number[], requests: number): Promise<number[]> {
    const header = { clusterSize: CLUSTER, l1Entries: offsets.length } as Qcow2Header;
    const l1 = { offsets: Float64Array.from(offsets) } as L1Table;
    const asked: number[] = [];
    const all = Promise.withResolvers<void>();
    const late = setTimeout(() => all.reject(new Error(`only ${asked.length} requests at once`)), 2000);
    const readInto: ImageSource['readInto'] = async (start, target) => {
      if (asked.push(start) === requests) all.resolve();
      await all.promise;
      target.set(FILE.subarray(start, start + target.length));
    };
    const tables = await createL2Tables(header, l1, { readInto } as ImageSource).load(0, offsets.length);
    clearTimeout(late);
    for (const [index, offset] of offsets.entries())
      assert.deepEqual(tables[index], offset === 0 ? undefined : FILE.subarray(offset, offset + CLUSTER));
    return asked;
  }

  it('are asked for together, however far they lie from each other', async () => {
    const offsets = Array.from({ length: 40 }, (_, index) => CLUSTER + index * 33 * 1024);
    assert.equal((await load(offsets, 40)).length, 40);
  });

  it('come in one request over gaps that do not outweigh them, in whatever order they are named', async () => {
    assert.deepEqual(await load([6 * CLUSTER, 0, 3 * CLUSTER, CLUSTER, 8 * CLUSTER], 1), [CLUSTER]);
    assert.deepEqual(await load([CLUSTER, 2 * CLUSTER, 40 * CLUSTER], 2), [CLUSTER, 40 * CLUSTER]);
  });
});
