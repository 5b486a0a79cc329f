import assert from 'node:assert/strict';
import { requiredSpace, usableSpace } from '../../activities/kubernetes/overhead.js';

const MI = 1024 ** 2;
const roundUp = (bytes: number) => Math.ceil(bytes / MI) * MI;

// the grid of CDI's own tests (`cdi.md` §8)
describe('file system overhead', () => {
  for (const volume of [MI, 40 * MI, 1024 * MI, 40 * 1024 * MI]) {
    for (const overhead of [0, 0.06, 0.75]) {
      it(`volume ${volume}, overhead ${overhead}`, () => {
        for (let bytes = volume - 1024; bytes < volume + 1024; bytes++) {
          const expected = bytes <= volume ? volume : volume + MI;
          const available = Math.trunc((roundUp(bytes) + 1) * (1 + overhead));
          assert.equal(usableSpace(overhead, available), expected, `usable of ${available}`);
          const required = requiredSpace(overhead, bytes);
          assert.ok(Math.abs((required - expected) / expected - overhead) <= 0.01, `required for ${bytes}`);
          assert.ok(usableSpace(overhead, required) >= bytes, `${required} holds ${bytes}`);
        }
      });
    }
  }

  it("gives CDI's figures for 1 GiB", () => {
    assert.equal(usableSpace(0.06, 1024 * MI), 1_012_924_416);
    assert.equal(requiredSpace(0.06, 1024 * MI), 1_138_166_334);
    assert.equal(requiredSpace(0.06, 2048 * MI), 2_276_332_667);
  });
});
