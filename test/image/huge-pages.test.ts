import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createSegmentPool } from '../../activities/image/pool.js';

const MIB = 1024 * 1024;

interface Area {
  readonly start: number;
  readonly end: number;
}

/** This process's memory that was asked for in huge pages (`hg` of `VmFlags`, proc_pid_smaps(5)). */
async function advisedAreas(): Promise<readonly Area[]> {
  const areas = (await readFile('/proc/self/smaps', 'utf8')).split(/\n(?=[\da-f]+-[\da-f]+ )/u);
  return areas
    .filter((area) => /^VmFlags:.* hg\b/mu.test(area))
    .map((area) => {
      const [, start = '', end = ''] = /^([\da-f]+)-([\da-f]+) /u.exec(area) ?? [];
      return { start: parseInt(start, 16), end: parseInt(end, 16) };
    });
}

/** Bytes of it that were not there `before`: the memory of earlier tests may be given back at any time. */
async function advisedSince(before: readonly Area[]): Promise<number> {
  let bytes = 0;
  for (const { start, end } of await advisedAreas()) {
    bytes += end - start;
    for (const old of before) bytes -= Math.max(0, Math.min(end, old.end) - Math.max(start, old.start));
  }
  return bytes;
}

describe("the engine's memory", () => {
  before(function () {
    if (!existsSync('/sys/kernel/mm/transparent_hugepage')) this.skip();
  });

  it('is asked for in huge pages from the second segment on, and not what lies beside', async () => {
    const pool = createSegmentPool({ segmentBytes: 4 * MIB, besideBytes: 4 * MIB, count: 4 });
    const before = await advisedAreas();
    const first = await pool.acquire();
    assert.equal(await advisedSince(before), 0);
    await pool.acquire();
    assert.equal(await advisedSince(before), 4 * MIB);
    first.release();
    await pool.acquire();
    await pool.acquire();
    assert.equal(await advisedSince(before), 8 * MIB);
  });
});
