/** What Secrets and ConfigMaps hold, and the way it is read. */
import { isUtf8 } from 'node:buffer';
import type { V1ConfigMap, V1Secret } from '@kubernetes/client-node';
import { permanentFailure } from '../failures.js';
import { withoutEnd } from '../without-end.js';

/**
 * A value without the line end that `echo` and editors leave: no header and no password may end in one; `''` where there is none.
 *
 * @throws {@link FailureType} `InvalidDataVolume` for one that is no UTF-8: another password would be sent than was written
 */
export function valueOf(secret: V1Secret | undefined, key: string): string {
  const bytes = Buffer.from(secret?.data?.[key] ?? '', 'base64');
  if (isUtf8(bytes)) return withoutEnd(bytes.toString('utf8'), '\r\n');
  const { namespace, name } = secret?.metadata ?? {};
  throw permanentFailure('InvalidDataVolume', `key ${key} of Secret ${namespace}/${name} is not UTF-8`);
}

/** @throws {@link FailureType} `InvalidDataVolume` for a Secret in which one of the keys is missing or empty */
export function refuseWithout(secret: V1Secret, keys: readonly string[]): void {
  const absent = keys.filter((key) => valueOf(secret, key) === '');
  if (absent.length === 0) return;
  const { namespace, name } = secret.metadata ?? {};
  throw permanentFailure(
    'InvalidDataVolume',
    `Secret ${namespace}/${name} has no ${absent.join(' and no ')}: the source needs ${keys.join(' and ')}`,
  );
}

/**
 * All certificates of a ConfigMap, by key. What is no UTF-8, such as a comment in Latin-1, `kubectl` puts into `binaryData`.
 *
 * @throws {@link FailureType} `InvalidDataVolume` where it holds none
 */
export function bundleOf({ metadata, data = {}, binaryData = {} }: V1ConfigMap): string {
  const binary = Object.entries(binaryData).map(([key, held]) => [key, latin1Of(held)] as const);
  const files = [...Object.entries(data), ...binary]
    .filter(([key]) => !key.startsWith('.'))
    .sort(([one], [other]) => (one < other ? -1 : 1));
  const bundle = files.map(([, text]) => text.trim()).join('\n');
  if (bundle.includes('-----BEGIN CERTIFICATE-----')) return `${bundle}\n`;
  throw permanentFailure(
    'InvalidDataVolume',
    `ConfigMap ${metadata?.namespace}/${metadata?.name} holds no PEM certificate in its ${files.length} keys`,
  );
}

/** PEM itself is ASCII, whatever is around it. */
function latin1Of(base64: string): string {
  return Buffer.from(base64, 'base64').toString('latin1');
}
