import { permanentFailure } from '../failures.js';

/** Powers of ten or two behind a Kubernetes quantity's suffix (apimachinery `resource.Quantity`). */
const SUFFIXES: Readonly<Record<string, readonly [base: bigint, exponent: number]>> = {
  n: [10n, -9],
  u: [10n, -6],
  m: [10n, -3],
  '': [10n, 0],
  k: [10n, 3],
  M: [10n, 6],
  G: [10n, 9],
  T: [10n, 12],
  P: [10n, 15],
  E: [10n, 18],
  Ki: [2n, 10],
  Mi: [2n, 20],
  Gi: [2n, 30],
  Ti: [2n, 40],
  Pi: [2n, 50],
  Ei: [2n, 60],
};

const QUANTITY = /^([+-]?)(\d+(?:\.\d*)?|\.\d+)(?:[eE]([+-]?\d{1,3})|([numkMGTPE]|[KMGTPE]i)?)$/;

/** Largest quantity that Kubernetes keeps: an int64. */
const MAX_QUANTITY = 2n ** 63n - 1n;

/**
 * Bytes that a Kubernetes quantity names, fractions rounded up (away from zero when negative); `undefined` for anything that is
 * no quantity. `1E` is an exabyte, `1E3` a thousand.
 */
export function parseQuantity(text: string | number): bigint | undefined {
  const match = QUANTITY.exec(String(text));
  if (!match) return undefined;
  const [, sign, digits = '', exponent, suffix = ''] = match;
  const [whole = '', fraction = ''] = digits.split('.');
  const [base, power] =
    exponent === undefined ? (SUFFIXES[suffix] ?? [10n, 0]) : ([10n, Number(exponent)] as const);
  const scaled = BigInt(whole + fraction || '0') * (power > 0 ? base ** BigInt(power) : 1n);
  const divisor = 10n ** BigInt(fraction.length) * (power < 0 ? base ** BigInt(-power) : 1n);
  const bytes = (scaled + divisor - 1n) / divisor;
  const bounded = bytes > MAX_QUANTITY ? MAX_QUANTITY : bytes;
  return sign === '-' ? -bounded : bounded;
}

/**
 * Bytes of a size that a user wrote, as a number.
 *
 * @throws {@link FailureType} `InvalidDataVolume` for no quantity, for nothing, and for more than 2^53 - 1 bytes (8 PiB)
 */
export function sizeBytes(text: string | number, what: string): number {
  const bytes = parseQuantity(text);
  if (bytes === undefined || bytes <= 0n)
    throw permanentFailure('InvalidDataVolume', `${what} is ${text}: not a size`);
  if (bytes > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw permanentFailure(
      'InvalidDataVolume',
      `${what} is ${text}: more than ${Number.MAX_SAFE_INTEGER} bytes, the largest size supported`,
    );
  }
  return Number(bytes);
}

/** A quantity of whole bytes in the form that Kubernetes prints: the largest binary suffix that divides it. */
export function formatQuantity(bytes: bigint | number): string {
  let rest = BigInt(bytes);
  if (rest === 0n) return '0';
  let index = 0;
  const names = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei'];
  while (index < names.length - 1 && rest % 1024n === 0n) {
    rest /= 1024n;
    index++;
  }
  return `${rest}${names[index]}`;
}
