import assert from 'node:assert/strict';
import fc from 'fast-check';
import { failureTypeOf } from '../../activities/failures.js';
import { formatQuantity, parseQuantity, sizeBytes } from '../../activities/kubernetes/quantity.js';

describe('parseQuantity', () => {
  // what `resource.MustParse(text).Value()` of apimachinery gives
  const rows: [string | number, bigint | undefined][] = [
    ['0', 0n],
    [1024, 1024n],
    ['1Gi', 1_073_741_824n],
    ['1G', 1_000_000_000n],
    ['10Ki', 10_240n],
    ['10k', 10_000n],
    ['1.5Gi', 1_610_612_736n],
    ['.5Mi', 524_288n],
    ['5.Mi', 5_242_880n],
    ['1e3', 1000n],
    ['1E3', 1000n],
    ['1E', 1_000_000_000_000_000_000n],
    ['1Ei', 1_152_921_504_606_846_976n],
    ['1e-1', 1n],
    ['100m', 1n],
    ['1001m', 2n],
    ['1n', 1n],
    ['2000000u', 2n],
    ['+1Ki', 1024n],
    ['-1Gi', -1_073_741_824n],
    ['9223372036854775807', 9_223_372_036_854_775_807n],
    ['8Ei', 9_223_372_036_854_775_807n],
    ['', undefined],
    ['1GiB', undefined],
    ['1 Gi', undefined],
    ['Gi', undefined],
    ['.', undefined],
    ['1ki', undefined],
    ['1K', undefined],
    ['1e', undefined],
    ['0x10', undefined],
    ['1Gi\n', undefined],
  ];
  for (const [text, bytes] of rows) {
    it(`${JSON.stringify(text)} is ${bytes ?? 'no quantity'}`, () =>
      assert.equal(parseQuantity(text), bytes));
  }

  const amount = fc.bigInt({ min: 0n, max: 2n ** 63n - 1n });
  it('reads back what it prints', () => {
    fc.assert(fc.property(amount, (bytes) => parseQuantity(formatQuantity(bytes)) === bytes));
  });

  it('rounds fractions up to whole bytes', () => {
    fc.assert(
      fc.property(fc.nat(1_000_000), fc.integer({ min: 1, max: 999 }), (whole, milli) => {
        const text = `${whole}.${String(milli).padStart(3, '0')}`;
        return (
          parseQuantity(text) === BigInt(whole) + 1n &&
          parseQuantity(`${whole}${String(milli).padStart(3, '0')}m`) === BigInt(whole) + 1n
        );
      }),
    );
  });

  it('gives a negative quantity the opposite of its amount', () => {
    fc.assert(
      fc.property(amount, fc.constantFrom('', 'k', 'Ki', 'm'), (bytes, suffix) => {
        const positive = parseQuantity(`${bytes}${suffix}`) ?? 0n;
        return parseQuantity(`-${bytes}${suffix}`) === -positive;
      }),
    );
  });
});

describe('sizeBytes', () => {
  for (const text of ['0', '-1Gi', '1GiB', '', '8Ei']) {
    it(`refuses ${JSON.stringify(text)}`, () => {
      assert.throws(
        () => sizeBytes(text, 'the size'),
        (error) => failureTypeOf(error) === 'InvalidDataVolume',
      );
    });
  }
});
