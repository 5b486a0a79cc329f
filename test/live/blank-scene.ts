/** Blank disks for live tests: made as a user makes them, and held where their disk is created. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestStack } from '../support/stack.js';
import { eventually, type DataVolume, type World } from './world.js';

export const MiB = 1 << 20;

/** Lets the first pod that uses the claim choose the node. */
export const WAITS_FOR_CONSUMER = { 'cdi.kubevirt.io/storage.bind.immediate.requested': undefined };

/** A run that is held where it creates its disk. */
export interface HeldBlank {
  readonly made: DataVolume;
  /** Lets the disk be created. */
  readonly release: () => Promise<void>;
}

/** What tests do with blank disks, in the namespace that `namespace` names when it is asked. */
export function createBlanks(stack: TestStack, world: World, namespace: () => string) {
  const holders = new Set<ChildProcess>();

  const create = async (
    name: string,
    spec: object = {},
    annotations: Record<string, string | undefined> = {},
  ): Promise<DataVolume> =>
    await world.createImport(namespace(), name, {}, { source: { blank: {} }, ...spec }, annotations);

  /** A claim under `pvc`, whose size is taken as it is. */
  const pvc = (storage: string, more: object = {}): object => ({
    storage: undefined,
    pvc: {
      storageClassName: 'hostpath-provisioner',
      accessModes: ['ReadWriteOnce'],
      resources: { requests: { storage } },
      ...more,
    },
  });

  /** Somebody else has the lock of the disk, as an earlier attempt has that does not end. */
  async function hold(name: string, spec: object = {}, annotations = {}): Promise<HeldBlank> {
    const made = await create(name, spec, { ...WAITS_FOR_CONSUMER, ...annotations });
    await world.awaitPhase(namespace(), name, 'WaitForFirstConsumer', 30_000);
    const state = join(stack.info.pool, '.dvflow', made.metadata.uid);
    await mkdir(state, { mode: 0o700, recursive: true });
    await writeFile(join(state, 'lock'), '', { mode: 0o600 });
    const holder = spawn(
      'flock',
      ['--exclusive', join(state, 'lock'), 'sh', '-c', 'echo held; exec sleep 300'],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
        detached: true,
      },
    );
    holders.add(holder);
    await once(holder.stdout, 'data');
    const node = `kubevirt.io/provisionOnNode=${stack.info.node}`;
    await stack.kubectl(['annotate', 'pvc', '-n', namespace(), name, node]);
    await world.awaitPhase(namespace(), name, 'ImportInProgress', 30_000);
    return { made, release: () => release(holder) };
  }

  async function release(holder: ChildProcess): Promise<void> {
    if (!holders.delete(holder)) return;
    const ended = once(holder, 'close');
    // flock, and the shell that inherited the lock
    process.kill(-holder.pid!, 'SIGKILL');
    await ended;
  }

  /** For `after` hooks: nothing is held any more. */
  async function releaseAll(): Promise<void> {
    await Promise.all([...holders].map(release));
  }

  const idOf = ({ metadata: { namespace: space, name, uid } }: DataVolume): string =>
    `datavolume/${space}/${name}/${uid}`;

  async function awaitClosed(made: DataVolume, timeoutMs = 60_000): Promise<string> {
    return await eventually('the run ends', timeoutMs, async () => {
      const { status } = await stack.temporal.workflow.getHandle(idOf(made)).describe();
      return status.name === 'RUNNING' ? undefined : status.name;
    });
  }

  /** Size of the disk behind a Bound claim, and what of it takes room. */
  async function sizesOf(name: string): Promise<{ readonly size: number; readonly allocated: number }> {
    const { size, blocks } = await stat(await world.diskOf(namespace(), name));
    return { size, allocated: blocks * 512 };
  }

  return { create, pvc, hold, releaseAll, idOf, awaitClosed, sizesOf };
}

export type Blanks = ReturnType<typeof createBlanks>;
