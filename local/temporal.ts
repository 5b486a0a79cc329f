import { join } from 'node:path';
import { layout } from './paths.js';
import type { Ports } from './types.js';

/** Search attributes of every lifecycle (`SEARCH_ATTRIBUTES` of workflows/messages.ts; a test keeps them equal). */
export const SEARCH_ATTRIBUTE_NAMES = [
  'DataVolumeNamespace',
  'DataVolumeName',
  'DataVolumeUid',
  'DataVolumePhase',
  'DataVolumeSource',
] as const;

/** Arguments of the Temporal development server; its history is a file, so that it outlives a restart. */
export function temporalArguments(directory: string, ports: Ports): readonly string[] {
  return [
    'server',
    'start-dev',
    '--disable-config-file',
    '--disable-config-env',
    `--db-filename=${join(layout(directory).temporal, 'temporal.db')}`,
    '--ip=127.0.0.1',
    `--port=${ports.temporal}`,
    '--ui-ip=127.0.0.1',
    `--ui-port=${ports.temporalUi}`,
    `--http-port=${ports.temporalHttp}`,
    `--metrics-port=${ports.temporalMetrics}`,
    '--log-level=warn',
    ...SEARCH_ATTRIBUTE_NAMES.map((name) => `--search-attribute=${name}=Keyword`),
  ];
}
