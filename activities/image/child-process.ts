import { spawn, type ChildProcess } from 'node:child_process';
import { extname } from 'node:path';
import { createInterface } from 'node:readline';
import type { Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { awayFailure, permanentFailure, transientFailure } from '../failures.js';
import type { Owner } from '../node/directories.js';
import type { TransferProgress, TransferResult, TransientFailureType } from '../types.js';
import { childEnvironment } from './child-environment.js';
import type { ChildFailure, ChildJob, ChildMessage, ChildOrder } from './child-protocol.js';
import { nameUnforeseen } from './unforeseen.js';
import type { BodyEnd } from './upload/upload-source.js';

/** The JavaScript heap holds no image data; the pools lie outside of it. In MiB. */
const HEAP_MIB = 96;
/**
 * V8 lets the space of new objects grow to 64 MiB, and marks all of the heap over and over when the rest of its limit is no larger:
 * an image in small scattered pieces took eight times the CPU. In MiB.
 */
const NEW_OBJECTS_MIB = 8;
/** From the order to stop to the end by force; with the heartbeat's delay below the 2 s that are promised. */
const KILL_AFTER_MS = 1000;

/** How a child is run. */
export interface ChildOptions {
  readonly job: Omit<ChildJob, 'fds'>;
  readonly fds: {
    /** Absent for an archive. */
    readonly file?: number;
    readonly direct?: number;
    readonly directory: number;
    readonly record: number;
    readonly lock: number;
    /** Directory of scratch space. */
    readonly scratch?: number;
    /** Disk of the volume that is cloned, on this node; read only. */
    readonly volume?: number;
  };
  /** Run as this user, without capabilities; absent: as the worker's own user. */
  readonly user?: Owner | undefined;
  /** The program, `.js` or `.ts`. @default `child` beside this file */
  readonly path?: string | undefined;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: TransferProgress) => void;
  /** Of an upload: called once with the way to the child, which waits for its body there. */
  readonly feed?: ((channel: ChildChannel) => void) | undefined;
}

/** The way of an upload's body into a child. */
export interface ChildChannel {
  readonly body: Writable;
  /** Says how the body has ended, then ends it. */
  end(how: BodyEnd): void;
}

/** Runs the byte mover to its end. @throws its failure, typed; `NodeUnavailable` where it died without one */
export async function runChild(options: ChildOptions): Promise<TransferResult> {
  const { file, direct, directory, record, lock, scratch, volume } = options.fds;
  const inherited = [
    ...[file, directory, record, lock, direct, scratch, volume].map((fd) => fd ?? ('ignore' as const)),
    options.feed ? ('pipe' as const) : ('ignore' as const),
  ];
  const job: ChildJob = {
    ...options.job,
    fds: {
      ...(file === undefined ? {} : { file: 3 }),
      directory: 4,
      record: 5,
      ...(direct === undefined ? {} : { direct: 7 }),
      ...(scratch === undefined ? {} : { scratch: 8 }),
      ...(volume === undefined ? {} : { volume: 9 }),
      ...(options.feed ? { body: 10 } : {}),
    },
  };
  const [command, ...args] = commandLine(options);
  const child = start(command, args, { inherited, env: childEnvironment(options.job.request) });
  const ended = endOf(child, command);
  // awaited only when the output has ended; until then a rejection would end the worker
  ended.catch(() => undefined);
  // a child that dies early closes its input: how it ended says more than EPIPE
  child.stdin?.on('error', () => undefined);
  const stop = stopOnAbort(child, options.signal);
  try {
    child.stdin?.write(`${JSON.stringify(job)}\n`);
    options.feed?.(channelTo(child));
    const last = (await readMessages(child, options.onProgress)) ?? (await ended);
    options.signal.throwIfAborted();
    if (typeof last === 'string') throw transientFailure('NodeUnavailable', last);
    if ('result' in last) return last.result;
    throw asFailure(last.failure);
  } finally {
    stop();
    // what it has said is done and durable. Its own end is not waited for: Node may wait for ever, as it exits, for a thread of V8
    // that waits for its collector (https://github.com/nodejs/node/issues/54918)
    child.kill('SIGKILL');
    await ended.catch(() => undefined);
  }
}

/** Both ends of the body go with the child: what is written then is written to nobody. */
function channelTo(child: ChildProcess): ChildChannel {
  const body = (child.stdio as readonly unknown[])[10] as Writable;
  body.on('error', () => undefined);
  child.once('close', () => body.destroy());
  return {
    body,
    end(how) {
      const order: ChildOrder = { body: how };
      child.stdin?.write(`${JSON.stringify(order)}\n`);
      body.end();
    },
  };
}

interface StartOptions {
  /** Descriptors that it gets as 3, 4, …. */
  readonly inherited: readonly (number | 'ignore' | 'pipe')[];
  readonly env: NodeJS.ProcessEnv;
}

/** Starts the child. Its standard error goes nowhere: what a decoder prints there may be the image's or a credential. */
function start(command: string, args: readonly string[], options: StartOptions): ChildProcess {
  try {
    const { inherited, env } = options;
    return spawn(command, args, { stdio: ['pipe', 'pipe', 'ignore', ...inherited], env });
  } catch (error) {
    // most errors arrive as an event, ENOMEM does not
    throw cannotStart(command, error);
  }
}

function cannotStart(command: string, error: unknown): Error {
  return transientFailure(
    'NodeUnavailable',
    `the transfer process cannot be started: ${command}: ${nameUnforeseen(error)}`,
  );
}

/** `setpriv` takes every privilege away before the program starts, and ties its life to the worker's. */
function commandLine({ user, path = siblingPath() }: ChildOptions): [string, ...string[]] {
  const privileges = user
    ? [
        '--reuid',
        `${user.uid}`,
        '--regid',
        `${user.gid}`,
        '--clear-groups',
        '--bounding-set=-all',
        '--inh-caps=-all',
      ]
    : [];
  // a source needs what this process was given to run sources
  const loader = extname(path) === '.ts' ? process.execArgv : [];
  const heap = [`--max-old-space-size=${HEAP_MIB}`, `--max-semi-space-size=${NEW_OBJECTS_MIB}`];
  const node = [process.execPath, ...heap, ...loader, path];
  return ['setpriv', ...privileges, '--no-new-privs', '--pdeathsig', 'KILL', '--', ...node];
}

function siblingPath(): string {
  return fileURLToPath(new URL(`./child${extname(import.meta.url)}`, import.meta.url));
}

function endOf(child: ChildProcess, command: string): Promise<string> {
  return new Promise((resolve, reject) => {
    child.once('error', (error) => reject(cannotStart(command, error)));
    child.once('close', (code, killer) => {
      if (killer === 'SIGKILL') resolve('the transfer process was killed (out of memory?)');
      else
        resolve(
          `the transfer process ended ${killer ? `by ${killer}` : `with code ${code}`} and said no result`,
        );
    });
  });
}

function stopOnAbort(child: ChildProcess, signal: AbortSignal): () => void {
  let timer: NodeJS.Timeout | undefined;
  function abort(): void {
    const order: ChildOrder = { abort: true };
    child.stdin?.write(`${JSON.stringify(order)}\n`);
    timer = setTimeout(() => child.kill('SIGKILL'), KILL_AFTER_MS);
  }
  if (signal.aborted) abort();
  else signal.addEventListener('abort', abort, { once: true });
  return () => {
    clearTimeout(timer);
    signal.removeEventListener('abort', abort);
  };
}

/** Hands progress on, up to the message that says how the work has ended; `undefined` where none comes. */
async function readMessages(
  child: ChildProcess,
  onProgress: ChildOptions['onProgress'],
): Promise<Exclude<ChildMessage, { progress: unknown }> | undefined> {
  if (!child.stdout) return undefined;
  for await (const line of createInterface({ input: child.stdout })) {
    const message = parseMessage(line);
    if (!message) continue;
    if (!('progress' in message)) return message;
    onProgress(message.progress);
  }
  return undefined;
}

/** A line that is no message is what a killed child left half-written: how it ended is known otherwise. */
function parseMessage(line: string): ChildMessage | undefined {
  try {
    return JSON.parse(line) as ChildMessage;
  } catch {
    return undefined;
  }
}

/** Back in the worker, a failure is what it was; one that nobody foresaw may be the node's and is tried again. */
function asFailure({ type, message, permanent, nextRetryDelayMs, away }: ChildFailure): Error {
  if (!type) return transientFailure('NodeUnavailable', `transfer failed on this node: ${message}`);
  if (away) return awayFailure(message, { nextRetryDelayMs: nextRetryDelayMs ?? 0 });
  return permanent
    ? permanentFailure(type, message)
    : transientFailure(
        type as TransientFailureType,
        message,
        nextRetryDelayMs === undefined ? {} : { nextRetryDelayMs },
      );
}
