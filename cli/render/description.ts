import type { ImportStatus } from '../../client/index.js';
import { duration } from './figures.js';
import { historyText, type HistoryLine } from './history.js';
import { progressLine } from './progress.js';
import { imageText } from './steps.js';

/** Facts and history of one lifecycle, for people. */
export function descriptionText(status: ImportStatus, lines: readonly HistoryLine[], now: number): string {
  const facts = factsOf(status, now);
  const width = Math.max(...facts.map(([label]) => label.length)) + 2;
  const head = facts.map(([label, value]) => `${`${label}:`.padEnd(width)} ${value}`);
  return [...head, ...conditionLines(status), 'History:', historyText(lines)].join('\n');
}

function factsOf(status: ImportStatus, now: number): readonly (readonly [string, string])[] {
  const {
    namespace,
    name,
    workflowId,
    runId,
    phase,
    source,
    displayUrl,
    claim,
    node,
    image,
    waiting,
    failure,
  } = status;
  const since = (time: string): string => duration(now - Date.parse(time));
  return [
    ['DataVolume', `${namespace}/${name}`],
    ['Workflow', `${workflowId} (run ${runId})`],
    ['State', stateText(status, now)],
    ['Phase', phase || 'Pending'],
    ...(source ? [['Source', `${source}${displayUrl ? ` ${displayUrl}` : ''}`] as const] : []),
    ...(image ? [['Image', imageText(image)] as const] : []),
    ...(claim ? [['Claim', `${claim.namespace}/${claim.name} (${claim.uid})`] as const] : []),
    ...(node ? [['Node', node] as const] : []),
    ...(status.state === 'RUNNING' ? [['Now', progressLine(status)] as const] : []),
    ...(waiting ? [['Waiting', `${waiting.for} (for ${since(waiting.since)})`] as const] : []),
    ...(failure ? [['Failure', `${failure.type}: ${failure.message}`] as const] : []),
  ];
}

function stateText({ state, startedAt, closedAt }: ImportStatus, now: number): string {
  const took = duration((closedAt?.getTime() ?? now) - startedAt.getTime());
  return `${state[0]}${state.slice(1).toLowerCase()}, ${closedAt ? 'took' : 'for'} ${took}`;
}

function conditionLines({ conditions }: ImportStatus): readonly string[] {
  if (conditions.length === 0) return [];
  const lines = conditions.map(({ type, status, reason, message }) =>
    `  ${type.padEnd(8)} ${status.padEnd(6)} ${[reason, message].filter((part) => part !== '').join(': ')}`.trimEnd(),
  );
  return ['Conditions:', ...lines];
}
