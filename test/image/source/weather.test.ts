import assert from 'node:assert/strict';
import fc from 'fast-check';
import { PROPERTY_SEED } from '../../support/property-seed.js';
import { bufferContent, startContentServer } from '../../support/servers/index.js';
import type { Behaviour } from '../../support/servers/index.js';
import { BYTES, collect, useBench } from './open.js';

/** What may happen to one request without harm to the source. */
const trouble: fc.Arbitrary<Behaviour> = fc.oneof(
  fc.constant({}),
  fc.constant({ status: 503 }),
  fc.constant({ status: 429, retryAfter: '0' }),
  fc.constant({ distort: 'other-range' as const }),
  fc.constant({ distort: 'multipart' as const }),
  fc.integer({ min: 1, max: BYTES.length }).map((mostAtOnce) => ({ mostAtOnce })),
  fc.integer({ min: 0, max: BYTES.length }).map((truncateAfter) => ({ truncateAfter })),
  fc.integer({ min: 0, max: BYTES.length }).map((dropAfter) => ({ dropAfter })),
);

describe('an HTTP source in bad weather', function () {
  this.timeout(60_000);
  const bench = useBench();

  it('delivers each byte once and in order, or says that it cannot', async () => {
    const weather = fc.array(trouble, { minLength: 1, maxLength: 8 });
    const start = fc.integer({ min: 0, max: BYTES.length });
    await fc.assert(
      fc.asyncProperty(weather, start, fc.boolean(), async (troubles, from, ranges) => {
        const server = await startContentServer(bufferContent(BYTES), (index) => ({
          ...(index === 0 ? {} : troubles[index - 1]),
          ranges,
        }));
        // more tries than there are troubles
        const { source } = bench.open(server.url, {}, { maxReconnects: 10 });
        try {
          assert.ok((await collect(source.stream(from))).equals(BYTES.subarray(from)));
          if (!ranges) return;
          const target = Buffer.alloc(Math.min(200_000, BYTES.length - from));
          await source.readInto(from, target);
          assert.ok(target.equals(BYTES.subarray(from, from + target.length)));
        } finally {
          source.close();
          await server.close();
        }
      }),
      { numRuns: 40, seed: PROPERTY_SEED },
    );
  });
});
