/** The one argument of a workflow, as a person may have typed it: judged before anything is made, asked for or waited for. */
import { ApplicationFailure, workflowInfo } from '@temporalio/workflow';
import type { PermanentFailureType } from '../activities/types/failures.js';
import type { ClaimRef } from '../activities/types.js';
import { Unreadable } from './unreadable.js';

/** What a member of an argument is: the name or uid of an object of Kubernetes, or any text; with `?` it may be left out. */
export type Member = 'name' | 'name?' | 'text?';

/** What a workflow wants of its argument. */
export interface Wanted {
  /** Type of the failure of an argument that is something else. */
  readonly type: PermanentFailureType;
  /** What to give, for the failure's message: `{"name":"..."} of a PersistentVolume`. */
  readonly give: string;
  /** Members that are looked at; others are nobody's business here. */
  readonly members: Readonly<Record<string, Member>>;
  /** Where the members are, for the failure's message. @default the argument itself */
  readonly within?: string;
}

/**
 * Refuses an argument that the workflow could only stumble over: a `TypeError` fails its task again and again, a search attribute
 * longer than Temporal takes has it terminated, and an activity that is to look for nothing is retried for ever.
 * @throws `ApplicationFailure` of the wanted type, not retried, which says what is wrong and what to give
 */
export function requireArgument(input: unknown, wanted: Wanted): void {
  const what = wanted.within === undefined ? 'the argument' : `"${wanted.within}"`;
  if (input === undefined) throw refuse(`${what} is missing`, wanted);
  if (input instanceof Unreadable) throw refuse(`${what} is ${unread(input)}`, wanted);
  if (input instanceof Uint8Array) throw refuse(`${what} is bytes, of the encoding binary/plain`, wanted);
  if (typeof input !== 'object' || input === null || Array.isArray(input))
    throw refuse(`${what} is ${shown(input)}, not an object`, wanted);
  for (const [key, member] of Object.entries(wanted.members)) {
    // what is inherited was not given: `constructor`
    const value: unknown = Object.hasOwn(input, key) ? input[key as keyof typeof input] : undefined;
    const wrong = whatIsWrong(value, member);
    if (wrong === undefined) continue;
    const path = wanted.within === undefined ? key : `${wanted.within}.${key}`;
    throw refuse(`"${path}" is ${wrong}`, wanted);
  }
}

/**
 * The claim that a run for a claim alone is about; `more` members are looked at besides.
 * @throws {@link FailureType} `InvalidArgument`
 */
export function requireClaim(input: ClaimRef, more: Readonly<Record<string, Member>> = {}): ClaimRef {
  requireArgument(input, {
    type: 'InvalidArgument',
    give: '{"namespace":"...","name":"...","uid":"..."} of a claim',
    members: { namespace: 'name', name: 'name', uid: 'name', ...more },
  });
  return { namespace: input.namespace, name: input.name, uid: input.uid };
}

/**
 * Whether the argument is another run's own words. Whoever starts a run, or has it started again and again, is not believed what was
 * found, nor when: the Temporal UI starts one like another one with the same argument.
 */
export function continues(): boolean {
  const { continuedFromExecutionRunId, attempt, cronSchedule } = workflowInfo();
  return continuedFromExecutionRunId !== undefined && attempt === 1 && !cronSchedule;
}

/** Names of namespaces, nodes, claims and volumes, and uids; `..` would lead to another address of the API server. */
const NAME = /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/;
/** Of Kubernetes' names. */
const LONGEST = 253;
/** So much of what was given is repeated. */
const SHOWN = 40;

function whatIsWrong(value: unknown, member: Member): string | undefined {
  if (value === undefined) return member.endsWith('?') ? undefined : 'missing';
  if (typeof value !== 'string') return `${shown(value)}, not text`;
  if (member === 'text?') return undefined;
  if (value === '') return 'empty';
  if (value.length > LONGEST) return `of ${value.length} characters, more than ${LONGEST}`;
  return NAME.test(value) ? undefined : `${shown(value)}, not a name as Kubernetes has them`;
}

function shown(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object' && value !== null) return 'an object';
  const text = JSON.stringify(value);
  return text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text;
}

/** JSON is the one encoding that is read. */
function unread({ encoding }: Unreadable): string {
  if (encoding === '') return 'of no encoding, which should be json/plain';
  if (encoding.startsWith('json/')) return `no JSON, although its encoding is ${encoding}`;
  return `of the encoding ${shown(encoding)}, which should be json/plain`;
}

function refuse(message: string, { type, give }: Wanted): ApplicationFailure {
  return ApplicationFailure.create({ type, message: `${message}: give ${give}`, nonRetryable: true });
}
