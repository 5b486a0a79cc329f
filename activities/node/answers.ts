/**
 * File systems that do not answer: a server of NFS that is away, a disk that died. Whoever asks one waits in the kernel, and keeps one
 * of libuv's few threads for as long; with the last of them this process can do nothing at any pool.
 */
import { statfs } from 'node:fs/promises';
import { awayFailure } from '../failures.js';
import { plainPath } from '../without-end.js';

/** An answer later than this is none, in ms: a workflow gives a look at a pool 10 s. */
const ANSWER_MS = 8_000;

/** Work at a path that has not ended. */
interface Look {
  readonly since: number;
  readonly ended: Promise<unknown>;
  /** Somebody has waited for it in vain: timers are a moment early. */
  late?: true;
}

/** What is under way, by path. */
const looks = new Map<string, Set<Look>>();

/** The question that everybody waits for who comes to a path meanwhile. */
const questions = new Map<string, Look>();

/**
 * Waits until the file system at a path has answered a cheap question. Those who come at the same time share it: a file system that
 * hangs keeps one thread. What the answer says is for the caller to find out.
 * @throws {@link awayFailure} without an answer in time; at once where something at the path, or at one
 * above it, is known to hang
 */
export async function requireAnswer(path: string, node: string): Promise<void> {
  const plain = plainPath(path);
  refuseHung(plain, node);
  const question = questions.get(plain) ?? ask(plain);
  await inTime(question, plain, node);
}

/**
 * Does something short that tells how a path is, and answers within {@link ANSWER_MS}, the question before it included. It cannot be
 * ended: where it takes too long nobody waits any more, and until it ends the path is known to hang.
 * @throws as {@link requireAnswer}, and as `work` does
 */
export async function lookAt<T>(path: string, node: string, work: () => Promise<T>): Promise<T> {
  const plain = plainPath(path);
  const since = performance.now();
  await requireAnswer(plain, node);
  const result = work();
  await inTime(watch(plain, result), plain, node, since);
  return await result;
}

/** Does something that is short, to its end; where it is not short the path is known to hang. @throws as `work` does */
export async function watched<T>(path: string, work: () => Promise<T>): Promise<T> {
  const result = work();
  watch(plainPath(path), result);
  return await result;
}

function ask(path: string): Look {
  const question = watch(path, statfs(path));
  questions.set(path, question);
  void question.ended.then(() => questions.delete(path));
  return question;
}

function watch(path: string, work: Promise<unknown>): Look {
  const others = looks.get(path) ?? new Set();
  looks.set(path, others);
  const end = (): void => {
    others.delete(look);
    if (others.size === 0 && looks.get(path) === others) looks.delete(path);
  };
  const look: Look = { since: performance.now(), ended: work.then(end, end) };
  others.add(look);
  return look;
}

function refuseHung(path: string, node: string): void {
  for (const [at, underWay] of looks) {
    if (at !== path && !path.startsWith(`${at}/`)) continue;
    if ([...underWay].some((look) => look.late ?? leftOf(look.since) <= 0)) throw hangs(at, node);
  }
}

async function inTime(look: Look, path: string, node: string, since = look.since): Promise<void> {
  if (await endsWithin(look.ended, leftOf(since))) return;
  look.late = true;
  throw hangs(path, node);
}

/** Whether something ends within so many ms. @throws as it does */
export async function endsWithin(work: Promise<unknown>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), ms);
  });
  try {
    return await Promise.race([work.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** How long the end of what began then is still waited for, in ms. */
function leftOf(since: number): number {
  return since + ANSWER_MS - performance.now();
}

/** Says nothing about what is done there: a transfer that meets it does not count the attempt. */
function hangs(path: string, node: string): Error {
  return awayFailure(
    `the file system at ${path} on node ${node} does not answer: see to its disk or its server`,
    { nextRetryDelayMs: 10_000 },
  );
}
