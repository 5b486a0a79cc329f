/** One transfer as a node worker makes it: a reserved directory, the activities that fill and judge it, and its processes. */
import { randomUUID } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import type { Info } from '@temporalio/activity';
import { MockActivityEnvironment } from '@temporalio/testing';
import { DefaultLogger } from '@temporalio/worker';
import type { HttpRequest } from '../../../activities/image/source/types.js';
import { createTransferActivities, type TransferDependencies } from '../../../activities/image/transfer.js';
import { createNodeActivities } from '../../../activities/node/index.js';
import type {
  ImageFacts,
  ReservedDirectory,
  TransferInput,
  TransferProgress,
  TransferResult,
} from '../../../activities/types.js';

/** Owner of disks: qemu's user, or whoever runs the tests. */
export const USER = process.getuid?.() === 0 ? { uid: 107, gid: 107 } : undefined;

/** A reserved directory on this machine, and the activities that fill and judge it. */
export async function reserve(
  root: string,
  server: { readonly url: string },
  usableBytes: number,
  request: Partial<HttpRequest> = {},
  {
    contentType,
    image = {},
    ...dependencies
  }: Partial<TransferDependencies> &
    Pick<TransferInput, 'contentType'> & { readonly image?: Partial<ImageFacts> } = {},
) {
  const pool = `${root}/${randomUUID()}`;
  mkdirSync(pool);
  const node = createNodeActivities({ node: 'here', transferUser: USER });
  const dataVolume = { namespace: 'team-a', name: 'vm1', uid: randomUUID() };
  const claim = { namespace: 'team-a', name: 'vm1', uid: randomUUID() };
  const target = await node.reserveDirectory({
    dataVolume,
    claim,
    pool: { path: pool, useNamingPrefix: false },
    hostname: 'here',
    requestBytes: usableBytes,
    foreignBytes: 0,
    workflowId: `datavolume/team-a/vm1/${dataVolume.uid}`,
  });
  const input: TransferInput & { readonly target: ReservedDirectory } = {
    target,
    claim,
    usableBytes,
    preallocation: false,
    image: image as ImageFacts,
    ...(contentType === undefined ? {} : { contentType }),
  };
  const transfer = createTransferActivities({
    readRequest: async () => ({
      kind: 'http',
      url: server.url,
      headers: [],
      secretHeaders: [],
      insecureSkipVerify: false,
      ...request,
    }),
    policy: { allowed: ['127.0.0.0/8'], denied: [] },
    transferUser: USER,
    ...dependencies,
  });
  /** Scratch space in the same pool, of so many bytes. */
  async function reserveScratch(bytes: number): Promise<NonNullable<TransferInput['scratch']>> {
    const scratch = {
      namespace: 'dvflow-transfers',
      name: `prime-${dataVolume.uid}-scratch`,
      uid: randomUUID(),
    };
    const directory = await node.reserveDirectory({
      dataVolume: scratch,
      claim: scratch,
      pool: { path: pool, useNamingPrefix: false },
      hostname: 'here',
      requestBytes: bytes,
      foreignBytes: 0,
      workflowId: `datavolume/team-a/vm1/${dataVolume.uid}`,
    });
    return { directory, claim: scratch, bytes };
  }
  return {
    node,
    input,
    pool,
    reserveScratch,
    volume: `${pool}/${target.directory}`,
    disk: `${pool}/${target.directory}/disk.img`,
    state: `${pool}/.dvflow/${dataVolume.uid}`,
    record: () =>
      JSON.parse(readFileSync(`${pool}/.dvflow/${dataVolume.uid}/record.json`, 'utf8')) as {
        durable?: { completed: number };
        barren: number;
        changes: number;
        fence: number;
      },
    start: (attempt = 1, heartbeatDetails?: unknown, scratch?: TransferInput['scratch']) =>
      startAttempt(transfer, scratch ? { ...input, scratch } : input, { attempt, heartbeatDetails }),
  };
}

type Transfer = ReturnType<typeof createTransferActivities>;

/** One attempt as Temporal would make it. */
export function startAttempt(transfer: Transfer, input: TransferInput, info: Partial<Info>) {
  const environment = new MockActivityEnvironment(info, { logger: new DefaultLogger('ERROR') });
  const beats: TransferProgress[] = [];
  environment.on('heartbeat', (details: unknown) => beats.push(details as TransferProgress));
  const done = environment.run<[], TransferResult, () => Promise<TransferResult>>(() =>
    transfer.transferImage(input),
  );
  done.catch(() => undefined);
  return { done, beats, cancel: () => environment.cancel() };
}

/** Resolves once `ready` holds; a transfer that ends first is an error. */
export async function until(done: Promise<unknown>, ready: () => boolean): Promise<void> {
  let ended = false;
  done.then(
    () => (ended = true),
    () => (ended = true),
  );
  while (!ready()) {
    if (ended) throw new Error('the transfer ended before what the test waits for');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Process ids of the byte movers whose target (a disk, or the volume of an archive) this is. */
export function moversOf(target: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .map(Number)
    .filter((pid) => {
      try {
        return [3, 4].some((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`) === target);
      } catch {
        return false;
      }
    });
}

/** Whether a process works as the user of byte movers by now: what becomes it has the disk open as well, and is root. */
export function isOfUser(pid: number): boolean {
  try {
    return /^Uid:\t107\t107\t107\t107$/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

/**
 * Does `work` once `ready` holds, while the byte movers of `target` are stopped: however fast they are, they are in the middle of
 * their disk, and end neither between the look and the work nor during it. A transfer that ends first is an error.
 */
export async function whileStopped(
  { done }: { readonly done: Promise<unknown> },
  target: string,
  ready: () => boolean,
  work: (movers: readonly number[]) => void,
): Promise<void> {
  let movers: number[] = [];
  await until(done, () => {
    movers = moversOf(target);
    signal(movers, 'SIGSTOP');
    let holds = false;
    try {
      holds = movers.length > 0 && ready();
    } finally {
      if (!holds) signal(movers, 'SIGCONT');
    }
    return holds;
  });
  try {
    work(movers);
  } finally {
    signal(movers, 'SIGCONT');
  }
}

function signal(pids: readonly number[], name: NodeJS.Signals): void {
  for (const pid of pids)
    try {
      process.kill(pid, name);
    } catch {
      // it has ended since it was looked for
    }
}
