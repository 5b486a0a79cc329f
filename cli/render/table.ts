import Table from 'cli-table3';
import type { TransferProgress } from '../../activities/types.js';
import type { DataVolume } from '../data-volumes.js';
import { bytes, duration, timeLeft } from './figures.js';

/** A row of `dvflow get`: the DataVolume, and its transfer while one is under way. */
export interface Row {
  readonly dataVolume: DataVolume;
  readonly transfer?: TransferProgress;
}

const NO_LINES = Object.fromEntries(
  [
    'top',
    'top-mid',
    'top-left',
    'top-right',
    'bottom',
    'bottom-mid',
    'bottom-left',
    'bottom-right',
    'left',
    'left-mid',
  ]
    .concat(['mid', 'mid-mid', 'right', 'right-mid', 'middle'])
    .map((place) => [place, '']),
);

/** Columns under upper-case heads, three spaces between them, as kubectl prints them. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const drawn = new Table({
    head: [...head],
    chars: NO_LINES,
    style: { 'padding-left': 0, 'padding-right': 3, head: [], border: [] },
  });
  drawn.push(...rows.map((row) => [...row]));
  return drawn
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}

/** kubectl's columns of DataVolumes, with rate and time left where something runs. */
export function dataVolumeTable(rows: readonly Row[], now: number, namespaces: boolean): string {
  const running = rows.some(({ transfer }) => transfer !== undefined);
  const head = [
    ...(namespaces ? ['NAMESPACE'] : []),
    ...['NAME', 'PHASE', 'PROGRESS', 'RESTARTS', 'AGE'],
    ...(running ? ['RATE', 'ETA'] : []),
  ];
  return table(
    head,
    rows.map(({ dataVolume: { metadata, status }, transfer }) => [
      ...(namespaces ? [metadata.namespace] : []),
      metadata.name,
      status?.phase ?? '',
      status?.progress ?? '',
      status?.restartCount === undefined ? '' : String(status.restartCount),
      duration(now - Date.parse(metadata.creationTimestamp)),
      ...(running ? (transfer ? [`${bytes(transfer.rate)}/s`, eta(transfer)] : ['', '']) : []),
    ]),
  );
}

function eta(transfer: TransferProgress): string {
  const left = timeLeft(transfer);
  return left === undefined ? '' : duration(left);
}
