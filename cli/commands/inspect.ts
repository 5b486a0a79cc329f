import type { ImageFacts } from '../../activities/types.js';
import { planSteadily } from '../../activities/image/plan-image.js';
import { openSource } from '../../activities/image/source/open-source.js';
import { callerPolicy, sourceRequest, type SourceFlags } from '../local-source.js';
import { print, printJson } from '../output.js';
import { bytes } from '../render/figures.js';

/** What `dvflow inspect` was asked for. */
export interface InspectFlags extends SourceFlags {
  readonly json?: boolean;
  readonly contentType?: 'kubevirt' | 'archive';
}

/** Looks at a source and says what it is and how it would be read, and why; at most 2 MiB of it are fetched where it has ranges. */
export async function runInspect(address: string, flags: InspectFlags): Promise<void> {
  const { signal } = new AbortController();
  const request = await sourceRequest(address, flags, process.env);
  const source = await openSource(request, { policy: callerPolicy(flags), signal });
  try {
    using planned = await planSteadily(source, {
      checksum: request.checksum,
      contentType: flags.contentType,
      scratch: true,
      allocated: true,
    });
    const { facts } = planned;
    const { bytesRead } = source;
    if (flags.json) printJson({ ...facts, bytesRead });
    else for (const [name, text] of rowsOf(facts, bytesRead)) print(`${name.padEnd(10)} ${text}`);
  } finally {
    source.close();
  }
}

function rowsOf(facts: ImageFacts, bytesRead: number): readonly (readonly [string, string])[] {
  const { validators, virtualSize, allocatedBytes, scratch, unproved } = facts;
  return [
    ['source', facts.displayUrl],
    ['format', [facts.format, ...facts.containers.toReversed()].join(' in ')],
    ['length', sizeText(validators.length) ?? 'unknown'],
    ['virtual', sizeText(virtualSize) ?? 'unknown before the end of the stream'],
    ...(allocatedBytes === undefined ? [] : [['allocated', sizeText(allocatedBytes) ?? ''] as const]),
    ['ranges', facts.ranges ? 'yes' : 'no'],
    ['plan', `${facts.plan}: ${facts.reason}`],
    ['resume', RESUME[facts.resume]],
    ['scratch', scratch === undefined ? 'not needed' : `needed: ${scratch}`],
    ...(unproved === undefined ? [] : [['unproved', unproved] as const]),
    ['read', `${sizeText(bytesRead)} of the source for this answer`],
  ];
}

const RESUME = {
  exact: 'exact: a later attempt goes on where the last record says',
  reread: 'reread: a later attempt reads the source again, and does not write again what is durable',
  restart: 'restart: a later attempt starts over',
} as const satisfies Record<ImageFacts['resume'], string>;

function sizeText(count: number | undefined): string | undefined {
  return count === undefined ? undefined : `${bytes(count)} (${count} bytes)`;
}
