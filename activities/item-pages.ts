/** Lists that may be longer than what Temporal takes in one payload, page by page. */
import type { ItemPage, UnpublishedItem } from './types.js';

/** Order of the kinds: a claim goes before the volume that it would get again. */
const KINDS: readonly UnpublishedItem['kind'][] = [
  'PersistentVolumeClaim',
  'PersistentVolume',
  'Secret',
  'Directory',
  'BlockVolume',
  'TransferState',
];

/** The page that is asked for, in an order that stays the same while items come and go. */
export function pageOf(items: readonly UnpublishedItem[], { after, limit }: ItemPage): UnpublishedItem[] {
  const last = after && keyOf(after);
  return items
    .map((item) => ({ item, key: keyOf(item) }))
    .filter(({ key }) => last === undefined || key > last)
    .sort((a, b) => (a.key < b.key ? -1 : 1))
    .slice(0, limit)
    .map(({ item }) => item);
}

function keyOf({ kind, where, pool = '', name, objectUid = '' }: UnpublishedItem): string {
  return [KINDS.indexOf(kind), where, pool, name, objectUid].join('\0');
}
