/** What a DataVolume's spec names as the source of a clone. */
import type { CloneSource } from '../types/clone-sources.js';
import type { DataSourceName } from './data-source-chain.js';
import type { DataVolume } from './objects.js';

/** The DataSource that `spec.sourceRef` names; without a namespace it is of the DataVolume's own. */
export function sourceRefOf({
  metadata,
  spec,
}: Pick<DataVolume, 'metadata' | 'spec'>): DataSourceName | undefined {
  const { sourceRef } = spec;
  return sourceRef && { namespace: sourceRef.namespace || metadata.namespace, name: sourceRef.name };
}

/** The claim or snapshot that `spec.source` names, if it names one. */
export function cloneSourceOf({ spec }: Pick<DataVolume, 'spec'>): CloneSource | undefined {
  const { pvc, snapshot } = spec.source ?? {};
  if (pvc) return { kind: 'pvc', ...pvc };
  return snapshot && { kind: 'snapshot', ...snapshot };
}

/** `namespace/name` of the claim, snapshot or DataSource that a DataVolume is cloned from, if it is. */
export function cloneName(dataVolume: Pick<DataVolume, 'metadata' | 'spec'>): string | undefined {
  const named = sourceRefOf(dataVolume) ?? cloneSourceOf(dataVolume);
  return named && `${named.namespace}/${named.name}`;
}
