import { spawn, type ChildProcess } from 'node:child_process';
import { createRequire } from 'node:module';
import { extname } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { permanentFailure, transientFailure } from '../failures.js';
import type { Owner } from '../node/directories.js';
import type { TransferProgress, TransferResult, TransientFailureType } from '../types.js';
import type { ChildFailure, ChildJob, ChildMessage, ChildOrder } from './child-protocol.js';

/** The JavaScript heap holds no image data; the pools lie outside of it. In MiB. */
const HEAP_MIB = 96;
/** From the order to stop to the end by force; with the heartbeat's delay below the 2 s that are promised. */
const KILL_AFTER_MS = 1000;
const STDERR_TAIL = 2048;

/** How a child is run. */
export interface ChildOptions {
  readonly job: Omit<ChildJob, 'fds'>;
  readonly fds: {
    readonly file: number;
    readonly direct?: number;
    readonly directory: number;
    readonly record: number;
    readonly lock: number;
  };
  /** Run as this user, without capabilities; absent: as the worker's own user. */
  readonly user?: Owner | undefined;
  /** The program, `.js` or `.ts`. @default `child` beside this file */
  readonly path?: string | undefined;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: TransferProgress) => void;
}

/** Runs the byte mover to its end. @throws its failure, typed; `NodeUnavailable` where it died without one */
export async function runChild(options: ChildOptions): Promise<TransferResult> {
  const { file, direct, directory, record, lock } = options.fds;
  const inherited = [file, directory, record, lock, ...(direct === undefined ? [] : [direct])];
  const job: ChildJob = {
    ...options.job,
    fds: { file: 3, directory: 4, record: 5, ...(direct === undefined ? {} : { direct: 7 }) },
  };
  const [command, ...args] = commandLine(options);
  const child = spawn(command, args, {
    stdio: ['pipe', 'pipe', 'pipe', ...inherited],
    env: childEnvironment(),
  });
  let stderr = '';
  child.stderr?.on('data', (chunk: Buffer) => (stderr = (stderr + chunk.toString()).slice(-STDERR_TAIL)));
  // a child that dies early closes its input: how it ended says more than EPIPE
  child.stdin?.on('error', () => undefined);
  const ended = endOf(child);
  const stop = stopOnAbort(child, options.signal);
  try {
    child.stdin?.write(`${JSON.stringify(job)}\n`);
    const last = await readMessages(child, options.onProgress);
    const how = await ended;
    options.signal.throwIfAborted();
    if (last && 'result' in last) return last.result;
    throw last && 'failure' in last
      ? asFailure(last.failure)
      : transientFailure('NodeUnavailable', `${how}${stderr.trim() === '' ? '' : `: ${stderr.trim()}`}`);
  } finally {
    stop();
    child.kill('SIGKILL');
    await ended.catch(() => undefined);
  }
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
  const loader =
    extname(path) === '.ts'
      ? ['--import', pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href]
      : [];
  const node = [process.execPath, `--max-old-space-size=${HEAP_MIB}`, ...loader, path];
  return ['setpriv', ...privileges, '--no-new-privs', '--pdeathsig', 'KILL', '--', ...node];
}

function siblingPath(): string {
  return fileURLToPath(new URL(`./child${extname(import.meta.url)}`, import.meta.url));
}

/** Only what a process needs to run: the worker's own settings may hold keys. */
function childEnvironment(): NodeJS.ProcessEnv {
  const { PATH, TMPDIR, SSL_CERT_FILE, SSL_CERT_DIR } = process.env;
  return {
    PATH,
    ...(TMPDIR ? { TMPDIR } : {}),
    ...(SSL_CERT_FILE ? { SSL_CERT_FILE } : {}),
    ...(SSL_CERT_DIR ? { SSL_CERT_DIR } : {}),
  };
}

function endOf(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
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

/** Hands progress on; the last message that is none. */
async function readMessages(
  child: ChildProcess,
  onProgress: ChildOptions['onProgress'],
): Promise<ChildMessage | undefined> {
  if (!child.stdout) return undefined;
  let last: ChildMessage | undefined;
  for await (const line of createInterface({ input: child.stdout })) {
    const message = JSON.parse(line) as ChildMessage;
    if ('progress' in message) onProgress(message.progress);
    else last = message;
  }
  return last;
}

/** Back in the worker, a failure is what it was; one that nobody foresaw may be the node's and is tried again. */
function asFailure({ type, message, permanent }: ChildFailure): Error {
  if (!type) return transientFailure('NodeUnavailable', `transfer failed on this node: ${message}`);
  return permanent
    ? permanentFailure(type, message)
    : transientFailure(type as TransientFailureType, message);
}
