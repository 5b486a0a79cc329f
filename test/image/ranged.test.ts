import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Sink } from '../../activities/image/progress.js';
import { copyRanged, rawMap, WINDOW } from '../../activities/image/ranged.js';
import type { ImageSource } from '../../activities/image/source/types.js';
import type { SparseWriter } from '../../activities/image/writer.js';

const WINDOWS = 40;
/** Windows that the pool holds. */
const POOL = 8;

describe('copyRanged', () => {
  it('fetches no more than its pool ahead of a window that stalls', async () => {
    const stalled = Promise.withResolvers<void>();
    let fetched = 0;
    const readInto: ImageSource['readInto'] = async (start, target) => {
      if (start < WINDOW) await stalled.promise;
      fetched += target.length;
    };
    const recorded: number[] = [];
    const sink: Sink = {
      writer: {
        cover: async () => undefined,
        zero: async () => undefined,
      } as Partial<SparseWriter> as SparseWriter,
      diskBytes: Infinity,
      existing: false,
      completed: 0,
      signal: new AbortController().signal,
      at: () => undefined,
      checkpoint: async (completed) => void recorded.push(completed),
    };
    const fileBytes = WINDOWS * WINDOW;
    const source = { readInto } as Partial<ImageSource> as ImageSource;
    const copying = copyRanged({ map: rawMap(fileBytes), source, fileBytes }, sink);
    while (fetched < (POOL - 1) * WINDOW) await sleep(5);
    await sleep(100);
    assert.equal(fetched / WINDOW, POOL - 1);
    assert.equal(recorded.at(-1), 0);
    stalled.resolve();
    assert.deepEqual(await copying, { virtualSize: fileBytes });
    assert.equal(recorded.at(-1), fileBytes);
    assert.equal(fetched, fileBytes);
  });
});
