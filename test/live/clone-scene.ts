/** Claims to clone and clones of them, as live tests make them. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { machinePath } from '../../local/index.js';
import type { TestStack } from '../support/stack.js';
import { awaitWritten } from './upload-command.js';
import { eventually, type DataVolume, type World } from './world.js';

const run = promisify(execFile);
const MiB = 1 << 20;

/** What a clone is asked to be; all of it optional. */
export interface CloneOptions {
  /** Size of the disk; absent: left out. */
  readonly size?: string;
  readonly spec?: object;
  readonly annotations?: Record<string, string | undefined>;
  /** Namespace of the source. @default the clone's own */
  readonly from?: string;
}

/** What a test of clones does in a namespace. */
export function createClones(stack: TestStack, world: World, namespace: string) {
  const PLURAL = { group: 'cdi.kubevirt.io', version: 'v1beta1', plural: 'datavolumes' } as const;

  /** Clones claim `source`. */
  async function clone(name: string, source: string, options: CloneOptions = {}): Promise<DataVolume> {
    const { size, spec = {}, annotations, from = namespace } = options;
    const storage = {
      ...(size === undefined ? {} : { resources: { requests: { storage: size } } }),
      storageClassName: 'hostpath-provisioner',
    };
    return await create(
      name,
      { source: { pvc: { namespace: from, name: source } }, storage, ...spec },
      annotations,
    );
  }

  async function create(
    name: string,
    spec: object,
    annotations: Record<string, string | undefined> = {},
  ): Promise<DataVolume> {
    const body = {
      apiVersion: 'cdi.kubevirt.io/v1beta1',
      kind: 'DataVolume',
      metadata: {
        name,
        namespace,
        annotations: { 'cdi.kubevirt.io/storage.bind.immediate.requested': '', ...annotations },
      },
      spec,
    };
    return (await world.custom.createNamespacedCustomObject({
      ...PLURAL,
      namespace,
      body,
    })) as DataVolume;
  }

  /** A claim with a disk of so many MiB, each of them written; made as a blank disk. */
  async function makeSource(
    name: string,
    mebibytes: number,
    annotations: Record<string, string> = {},
  ): Promise<string> {
    const storage = {
      resources: { requests: { storage: `${mebibytes}Mi` } },
      storageClassName: 'hostpath-provisioner',
    };
    await create(name, { source: { blank: {} }, storage }, annotations);
    await world.awaitPhase(namespace, name, 'Succeeded');
    const disk = await world.diskOf(namespace, name);
    const args = [`of=${disk}`, 'bs=1M', `count=${mebibytes}`, 'conv=notrunc,fsync'];
    // one pass of a fast generator, so that each MiB is another
    await run('sh', [
      '-c',
      `openssl enc -aes-128-ctr -pass pass:${name} -nosalt -pbkdf2 -iter 1 < /dev/zero 2>/dev/null | dd iflag=fullblock ${args.join(' ')} 2>/dev/null`,
    ]);
    return disk;
  }

  /** Waits until condition `Running` says why it waits. */
  async function awaitReason(name: string, reason: string, message: RegExp): Promise<DataVolume> {
    return await eventually(`${name} waits: ${reason}`, 60_000, async () => {
      const found = await world.read(namespace, name);
      assert.ok(!['Succeeded', 'Failed'].includes(found?.status?.phase ?? ''), JSON.stringify(found?.status));
      const running = found?.status?.conditions?.find(({ type }) => type === 'Running');
      return running?.reason === reason && message.test(running.message) ? found : undefined;
    });
  }

  /** A pod that nobody runs, whose claims are in use all the same. */
  async function use(pod: string, claim: string, readOnly = false): Promise<void> {
    const mount = { name: 'disk', mountPath: '/disk', readOnly };
    await world.core.createNamespacedPod({
      namespace,
      body: {
        metadata: { name: pod },
        spec: {
          // no scheduler takes it
          schedulerName: 'nobody',
          containers: [{ name: 'main', image: 'none', volumeMounts: [mount] }],
          volumes: [{ name: 'disk', persistentVolumeClaim: { claimName: claim } }],
        },
      },
    });
  }

  async function unuse(pod: string): Promise<void> {
    await world.core.deleteNamespacedPod({ namespace, name: pod, gracePeriodSeconds: 0 });
  }

  /** Waits until the clone has written something, while it is still at it. */
  async function copying(made: DataVolume, node = stack.info.node): Promise<void> {
    const pool = machinePath(stack.info, node, stack.info.pool);
    await awaitWritten(world, { pool, namespace }, made.metadata.name, 32 * MiB);
  }

  const idOf = ({ metadata: { namespace: space, name, uid } }: DataVolume): string =>
    `datavolume/${space}/${name}/${uid}`;

  return { clone, create, makeSource, awaitReason, use, unuse, copying, idOf };
}

export type Clones = ReturnType<typeof createClones>;
