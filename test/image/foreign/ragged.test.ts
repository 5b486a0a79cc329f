import assert from 'node:assert/strict';
import { appendFileSync } from 'node:fs';
import { makeRaw, MIB, useDirectory } from '../support/images.js';
import { assertSameDisk, copyFile, KINDS } from './support.js';

describe('a foreign image whose file ends inside a sector', function () {
  this.timeout(60_000);
  const directory = useDirectory();

  for (const kind of KINDS.filter(({ name }) =>
    /^(VMDK streamOptimized|VDI dynamic|VHDX dynamic)$/.test(name),
  ))
    it(`is read, and qemu-img does not wait for what it never gets (${kind.name})`, async () => {
      const raw = makeRaw(`${directory()}/disk.raw`, 2 * MIB);
      const image = `${directory()}/image.${kind.driver}`;
      kind.make(raw, image);
      appendFileSync(image, Buffer.alloc(7));
      const target = `${image}.out`;
      const { image: parsed } = await copyFile(kind.format, image, target, { stallMs: 20_000 });
      assert.equal(parsed.virtualSize, 2 * MIB);
      assertSameDisk(target, image, kind.driver);
    });
});
