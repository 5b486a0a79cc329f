/** What a DataSource names in the end (`cdi.md` §1.9; CDI's `ResolveDataSourceChain`). */
import type { CloneSource } from '../types/clone-sources.js';
import type { DataSource } from './objects.js';

/** Reasons of CDI for a DataSource that names nothing that could be cloned. */
export type BrokenReference =
  'NotFound' | 'NoSource' | 'SelfReference' | 'CrossNamespaceReference' | 'MaxReferenceDepthReached';

/** A DataSource, by name. */
export interface DataSourceName {
  readonly namespace: string;
  readonly name: string;
}

/** Where a DataSource leads, and through which others. */
export type Chain =
  | { readonly source: CloneSource; readonly through: readonly DataSourceName[] }
  | { readonly source?: never; readonly reason: BrokenReference; readonly message: string };

/** Reads a DataSource; `undefined` where there is none. */
export type FindDataSource = (name: DataSourceName) => Promise<DataSource | undefined>;

/**
 * Follows a DataSource to a claim or snapshot. It may name another one of its own namespace, which then has to name the source
 * itself: chains end there, and with them loops. Only specifications are believed, since status is anybody's who may edit the object.
 */
export async function resolveDataSource(first: DataSourceName, find: FindDataSource): Promise<Chain> {
  const found = await find(first);
  if (!found) return missing(first);
  const next = nextOf(found);
  if (!next) return ended(found, [first]);
  if (next.namespace !== first.namespace)
    return broken(
      'CrossNamespaceReference',
      `DataSource cannot reference a DataSource in another namespace: ${shown(first)} references ${shown(next)}`,
    );
  if (next.name === first.name)
    return broken('SelfReference', `DataSource cannot self-reference: ${shown(first)}`);
  const second = await find(next);
  if (!second) return missing(next);
  const third = nextOf(second);
  if (third)
    return broken(
      'MaxReferenceDepthReached',
      `DataSource reference chain exceeds maximum depth of 1: ${[first, next, third].map(shown).join(', ')}`,
    );
  return ended(second, [first, next]);
}

/** The DataSource that this one names instead of a source. */
export function nextOf({ metadata, spec }: DataSource): DataSourceName | undefined {
  const { dataSource } = spec.source;
  return dataSource && { namespace: dataSource.namespace || metadata.namespace, name: dataSource.name };
}

/** The claim or snapshot that this one names itself. */
export function namedBy({ metadata, spec }: DataSource): CloneSource | undefined {
  const { pvc, snapshot } = spec.source;
  const named = pvc ?? snapshot;
  if (!named) return undefined;
  const { namespace, name } = named;
  return { kind: pvc ? 'pvc' : 'snapshot', namespace: namespace || metadata.namespace, name };
}

function ended(last: DataSource, through: readonly DataSourceName[]): Chain {
  const source = namedBy(last);
  if (source) return { source, through };
  return broken('NoSource', `No source PVC set in DataSource ${shown(last.metadata)}`);
}

function missing(name: DataSourceName): Chain {
  return broken('NotFound', `DataSource ${shown(name)} not found`);
}

function broken(reason: BrokenReference, message: string): Chain {
  return { reason, message };
}

/** `namespace/name` */
function shown({ namespace, name }: DataSourceName): string {
  return `${namespace}/${name}`;
}
