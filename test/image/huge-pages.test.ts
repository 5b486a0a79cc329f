import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createSegmentPool } from '../../activities/image/pool.js';

const MIB = 1024 * 1024;

/** Bytes of this process's memory that were asked for in huge pages (`hg` of `VmFlags`, proc_pid_smaps(5)). */
async function advisedBytes(): Promise<number> {
  const areas = (await readFile('/proc/self/smaps', 'utf8')).split(/\n(?=[\da-f]+-[\da-f]+ )/u);
  const sizes = areas
    .filter((area) => /^VmFlags:.* hg\b/mu.test(area))
    .map((area) => Number(/^Size:\s+(\d+) kB/mu.exec(area)?.[1]) * 1024);
  return sizes.reduce((sum, size) => sum + size, 0);
}

describe("the engine's memory", () => {
  before(function () {
    if (!existsSync('/sys/kernel/mm/transparent_hugepage')) this.skip();
  });

  it('is asked for in huge pages from the second segment on, and not what lies beside', async () => {
    const pool = createSegmentPool({ segmentBytes: 4 * MIB, besideBytes: 4 * MIB, count: 4 });
    const before = await advisedBytes();
    const first = await pool.acquire();
    assert.equal(await advisedBytes(), before);
    await pool.acquire();
    assert.equal(await advisedBytes(), before + 4 * MIB);
    first.release();
    await pool.acquire();
    await pool.acquire();
    assert.equal(await advisedBytes(), before + 8 * MIB);
  });
});
