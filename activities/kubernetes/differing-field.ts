/** Whether two specifications ask for the same. */
import { isRecord } from './manifests.js';
import { parseQuantity } from './quantity.js';

/** Sizes are equal however they are written. */
const SIZE = /\.resources\.(?:requests|limits)\.\w+$/u;

/** Go's clients leave them out where they are empty. */
const LEFT_OUT: readonly string[] = ['spec.priorityClassName', 'spec.serviceAccountName'];

/**
 * Path of the first field by which the specifications of two DataVolumes differ (`spec.source.http.url`), or `undefined` where they ask
 * for the same: a field that is `null` is none, `1Gi` is `1024Mi`, and no content type is `kubevirt`.
 */
export function differingField(one: unknown, other: unknown, path = 'spec'): string | undefined {
  if (isRecord(one) && isRecord(other)) {
    for (const key of new Set([...Object.keys(one), ...Object.keys(other)])) {
      const field = differingField(one[key], other[key], `${path}.${key}`);
      if (field !== undefined) return field;
    }
    return undefined;
  }
  if (Array.isArray(one) && Array.isArray(other) && one.length === other.length) {
    const places = one.map((item, place) => differingField(item, other[place], `${path}[${place}]`));
    return places.find((field) => field !== undefined);
  }
  return meant(one, path) === meant(other, path) ? undefined : path;
}

function meant(value: unknown, path: string): unknown {
  if (path === 'spec.contentType') return value || 'kubevirt';
  if (LEFT_OUT.includes(path)) return value || undefined;
  if (SIZE.test(path) && (typeof value === 'string' || typeof value === 'number'))
    return parseQuantity(value) ?? value;
  return value ?? undefined;
}
