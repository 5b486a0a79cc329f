import assert from 'node:assert/strict';
import { chmod, chown, link, mkdir, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createNodeActivities } from '../../activities/node/index.js';
import { failureTypeOf } from '../../activities/failures.js';
import { isRoot, makePool, request, transferred, writeDisk } from './support.js';

const SIZE = 1 << 20;
const activities = createNodeActivities({ node: 'node-1' });

/** One fault each, and what the failure says about it. */
const FAULTS: Record<string, [fault: (disk: string, base: string) => Promise<void>, says: RegExp]> = {
  'a missing disk': [(disk) => rm(disk), /ENOENT/],
  'another size': [(disk) => truncate(disk, SIZE - 512), /has 1048064 bytes, the transfer wrote 1048576/],
  'another mode': [(disk) => chmod(disk, 0o666), /has mode 666, expected 660/],
  'a second link': [(disk, base) => link(disk, join(base, 'second')), /has 2 links, expected 1/],
  'a symbolic link': [
    async (disk, base) => {
      await rm(disk);
      await writeFile(join(base, 'target'), Buffer.alloc(SIZE), { mode: 0o660 });
      await symlink(join(base, 'target'), disk);
    },
    /ELOOP/,
  ],
  'a transfer that did not finish': [
    (disk) => rm(join(disk, '../../.dvflow/dv-1/record.json')),
    /resume record does not say that the transfer is complete/,
  ],
  'a directory': [
    async (disk) => {
      await rm(disk);
      await mkdir(disk);
    },
    /is not a regular file/,
  ],
};

describe('verifyImage', () => {
  let pool: Awaited<ReturnType<typeof makePool>>;
  beforeEach(async () => {
    pool = await makePool();
  });
  afterEach(() => pool.remove());

  it('accepts the disk that the transfer reported', async () => {
    const directory = await activities.reserveDirectory(request(pool.path, 1));
    await writeDisk(directory, { size: SIZE });
    await activities.verifyImage({ directory, transferred: transferred(SIZE) });
  });

  for (const [name, [fault, says]] of Object.entries(FAULTS)) {
    it(`refuses ${name}`, async () => {
      const directory = await activities.reserveDirectory(request(pool.path, 1));
      const disk = await writeDisk(directory, { size: SIZE });
      await fault(disk, pool.base);
      const error = await activities
        .verifyImage({ directory, transferred: transferred(SIZE) })
        .catch((failure: unknown) => failure);
      assert.equal(failureTypeOf(error), 'ImageInvalid');
      assert.match((error as Error).message, says);
    });
  }

  it("refuses somebody else's disk", async function () {
    if (!isRoot) this.skip();
    const directory = await activities.reserveDirectory(request(pool.path, 1));
    const disk = await writeDisk(directory, { size: SIZE });
    await chown(disk, 1234, 1234);
    await assert.rejects(
      activities.verifyImage({ directory, transferred: transferred(SIZE) }),
      /belongs to uid 1234, expected 0/,
    );
  });
});
