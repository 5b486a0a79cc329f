import assert from 'node:assert/strict';
import { gzipSync } from 'node:zlib';
import { gunzip } from '../../activities/image/layers/gzip.js';

describe('gunzip of many members', () => {
  it('takes no chunk before it needs it, however small the members are', async () => {
    const member = gzipSync('a member, as bgzip makes them');
    const chunk = Buffer.concat(Array.from({ length: 50 }, () => member));
    let taken = 0;
    async function* chunks(): AsyncGenerator<Buffer> {
      for (let count = 0; count < 8; count += 1) {
        taken += chunk.length;
        yield chunk;
      }
    }
    let members = 0;
    for await (const piece of gunzip(chunks())) {
      assert.equal(piece.toString(), 'a member, as bgzip makes them');
      members += 1;
      const ahead = taken - members * member.length;
      assert.ok(ahead <= 2 * chunk.length, `${ahead} bytes are taken ahead of member ${members}`);
    }
    assert.equal(members, 8 * 50);
  });
});
