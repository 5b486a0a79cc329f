/** The world as a user sees it, for live tests: DataVolumes, claims, volumes, the pool. State is asserted, never calls. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import {
  CoreV1Api,
  CustomObjectsApi,
  type V1PersistentVolume,
  type V1PersistentVolumeClaim,
} from '@kubernetes/client-node';
import { MERGE_PATCH } from '../../activities/kubernetes/client.js';
import { machinePath } from '../../local/index.js';
import type { TestStack } from '../support/stack.js';
import { describeStuck } from './stuck.js';

const run = promisify(execFile);

/** DataVolumes as the API server returns them, as far as tests look. */
export interface DataVolume {
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly uid: string;
    readonly annotations?: Record<string, string>;
  };
  readonly status?: {
    readonly phase?: string;
    readonly progress?: string;
    readonly restartCount?: number;
    readonly claimName?: string;
    readonly conditions?: readonly { type: string; status: string; reason: string; message: string }[];
  };
}

const PLURAL = { group: 'cdi.kubevirt.io', version: 'v1beta1', plural: 'datavolumes' } as const;

/** Mark of a volume that waits to be reclaimed. */
const RELEASED = ' (released)';

/** Mark of a claim that the garbage collector takes. */
const GOING = ' (going)';

/** What a live test does to the cluster and reads from it. */
export function createWorld(stack: TestStack) {
  const core = stack.kubeConfig.makeApiClient(CoreV1Api);
  const custom = stack.kubeConfig.makeApiClient(CustomObjectsApi);

  async function createNamespace(prefix: string): Promise<string> {
    const made = await core.createNamespace({ body: { metadata: { generateName: `${prefix}-` } } });
    return made.metadata!.name!;
  }

  async function createImport(
    namespace: string,
    name: string,
    http: object,
    spec: object = {},
    annotations: Record<string, string | undefined> = {},
  ) {
    const body = dataVolume(namespace, name, http, spec, annotations);
    return (await custom.createNamespacedCustomObject({ ...PLURAL, namespace, body })) as DataVolume;
  }

  async function read(namespace: string, name: string): Promise<DataVolume | undefined> {
    try {
      return (await custom.getNamespacedCustomObject({ ...PLURAL, namespace, name })) as DataVolume;
    } catch (error) {
      if ((error as { code?: number }).code === 404) return undefined;
      throw error;
    }
  }

  /** Polls until the DataVolume has the phase; another terminal phase fails at once with its conditions. */
  async function awaitPhase(
    namespace: string,
    name: string,
    phase: string,
    timeoutMs = 120_000,
  ): Promise<DataVolume> {
    let found: DataVolume | undefined;
    return await eventually(
      `phase ${phase} of ${namespace}/${name}`,
      timeoutMs,
      async () => {
        found = await read(namespace, name);
        if (found?.status?.phase === phase) return found;
        if (['Succeeded', 'Failed'].includes(found?.status?.phase ?? '')) {
          assert.fail(`phase is ${found?.status?.phase}, not ${phase}: ${JSON.stringify(found?.status)}`);
        }
        return undefined;
      },
      () => describeStuck(stack.temporal, found),
    );
  }

  async function remove(namespace: string, name: string): Promise<void> {
    await custom.deleteNamespacedCustomObject({ ...PLURAL, namespace, name });
  }

  async function annotate(
    namespace: string,
    name: string,
    annotations: Record<string, string>,
  ): Promise<void> {
    const body = { metadata: { annotations } };
    await custom.patchNamespacedCustomObject({ ...PLURAL, namespace, name, body }, MERGE_PATCH);
  }

  async function claim(namespace: string, name: string): Promise<V1PersistentVolumeClaim | undefined> {
    return await core
      .readNamespacedPersistentVolumeClaim({ namespace, name })
      .catch((error: { code?: number }) => {
        if (error.code === 404) return undefined;
        throw error;
      });
  }

  /** Path on this machine of the disk that a Bound claim offers. */
  async function diskOf(namespace: string, name: string): Promise<string> {
    const bound = await claim(namespace, name);
    assert.equal(bound?.status?.phase, 'Bound', `claim ${namespace}/${name}`);
    const volume = await core.readPersistentVolume({ name: bound.spec!.volumeName! });
    assert.equal(volume.spec?.claimRef?.uid, bound.metadata?.uid);
    const [node = ''] =
      volume.spec?.nodeAffinity?.required?.nodeSelectorTerms[0]?.matchExpressions?.[0]?.values ?? [];
    return join(machinePath(stack.info, node, volume.spec!.hostPath!.path), 'disk.img');
  }

  /** Everything that may leak: claims, volumes, Secrets, pods, events aside, and the pool with its hidden state. */
  async function inventory(): Promise<readonly string[]> {
    const [dataVolumes, claims, volumes, secrets, pods] = await Promise.all([
      custom.listClusterCustomObject(PLURAL) as Promise<{ items: DataVolume[] }>,
      core.listPersistentVolumeClaimForAllNamespaces(),
      core.listPersistentVolume(),
      core.listSecretForAllNamespaces(),
      core.listPodForAllNamespaces(),
    ]);
    const owners = new Set(dataVolumes.items.map(({ metadata }) => metadata.uid));
    // the garbage collector is on its way to a claim whose DataVolume has gone
    const going = claims.items.filter(({ metadata }) =>
      metadata?.ownerReferences?.some(({ kind, uid }) => kind === 'DataVolume' && !owners.has(uid)),
    );
    const goingUids = new Set(going.map(({ metadata }) => metadata?.uid));
    const isReleased = ({ spec, status }: V1PersistentVolume): boolean =>
      status?.phase === 'Released' || goingUids.has(spec?.claimRef?.uid);
    const objects = [
      ...claims.items.map(
        (claim) =>
          `claim ${claim.metadata?.namespace}/${claim.metadata?.name}${going.includes(claim) ? GOING : ''}`,
      ),
      ...volumes.items.map(
        (volume) => `volume ${volume.metadata?.name}${isReleased(volume) ? RELEASED : ''}`,
      ),
      ...secrets.items.map(({ metadata }) => `secret ${metadata?.namespace}/${metadata?.name}`),
      ...pods.items.map(({ metadata }) => `pod ${metadata?.namespace}/${metadata?.name}`),
    ];
    const pools = [stack.info.pool, ...stack.info.nodes.map(({ pool }) => pool)];
    return [...objects, ...(await Promise.all(pools.map(poolEntries))).flat()].sort();
  }

  /**
   * Asserts that the inventory becomes what it was; what is left over is named. State of a run that had just ended may be gone, and so
   * may volumes that were being reclaimed.
   */
  async function assertUnchanged(before: readonly string[], timeoutMs = 30_000): Promise<void> {
    const released = before
      .filter((entry) => entry.endsWith(RELEASED))
      .map((entry) => entry.slice('volume '.length, -RELEASED.length));
    const ofReleased = (entry: string): boolean =>
      released.some((name) => entry.includes(name)) ||
      (released.length > 0 && entry.startsWith('pool .dvflow/promises/'));
    const stays = (entry: string): boolean =>
      !/^pool \.dvflow\/(?:\.removing-|[0-9a-f-]{36}(?:\/|$))/.test(entry) &&
      !entry.endsWith(GOING) &&
      !ofReleased(entry);
    let after: readonly string[] = [];
    const same = await eventually('the inventory as before', timeoutMs, async () => {
      after = await inventory();
      const isNew = after.some((entry) => !before.includes(entry));
      return isNew || before.some((entry) => stays(entry) && !after.includes(entry)) ? undefined : true;
    }).catch(() => false);
    if (!same) assert.deepEqual(after, before);
  }

  async function events(
    namespace: string,
    name: string,
  ): Promise<readonly { type: string; reason: string; message: string }[]> {
    const list = await core.listNamespacedEvent({ namespace, fieldSelector: `involvedObject.name=${name}` });
    return list.items.map(({ type = '', reason = '', message = '' }) => ({ type, reason, message }));
  }

  /** Waits for an annotation of a claim; those of a phase follow it. */
  async function awaitAnnotation(
    namespace: string,
    name: string,
    key: string,
    value: string,
  ): Promise<V1PersistentVolumeClaim> {
    let found: V1PersistentVolumeClaim | undefined;
    return await eventually(
      `${key} of claim ${namespace}/${name} to be ${value}`,
      60_000,
      async () => {
        found = await claim(namespace, name);
        return found?.metadata?.annotations?.[key] === value ? found : undefined;
      },
      async () => JSON.stringify(found?.metadata?.annotations),
    );
  }

  /** Waits for an event about an object; it follows the phase, the condition or the annotation that it belongs to. */
  async function awaitEvent(
    namespace: string,
    name: string,
    { type = /^/, reason, message = /^/ }: { type?: RegExp; reason: string; message?: RegExp },
  ): Promise<void> {
    const told = async () => await events(namespace, name);
    await eventually(
      `event ${reason} of ${namespace}/${name}`,
      60_000,
      async () =>
        (await told()).some(
          (one) => one.reason === reason && type.test(one.type) && message.test(one.message),
        )
          ? true
          : undefined,
      async () => JSON.stringify(await told()),
    );
  }

  return {
    core,
    custom,
    createNamespace,
    createImport,
    read,
    awaitPhase,
    remove,
    annotate,
    claim,
    diskOf,
    inventory,
    assertUnchanged,
    awaitAnnotation,
    events,
    awaitEvent,
  };
}

export type World = ReturnType<typeof createWorld>;

/** A DataVolume manifest for an import. */
export function dataVolume(
  namespace: string,
  name: string,
  http: object,
  spec: object = {},
  annotations: Record<string, string | undefined> = {},
) {
  return {
    apiVersion: 'cdi.kubevirt.io/v1beta1',
    kind: 'DataVolume',
    metadata: {
      name,
      namespace,
      annotations: { 'cdi.kubevirt.io/storage.bind.immediate.requested': '', ...annotations },
    },
    spec: {
      source: { http },
      storage: { resources: { requests: { storage: '64Mi' } }, storageClassName: 'hostpath-provisioner' },
      ...spec,
    },
  };
}

/** Names under the pool, hidden promises and records included; the pool's own lock aside. */
async function poolEntries(pool: string): Promise<readonly string[]> {
  const names = await readdir(pool, { recursive: true }).catch(() => []);
  return names
    .filter((name) => !/^\.dvflow(\/(lock|promises|\.identity\.json))?$/.test(name))
    .map((name) => `pool ${name}`);
}

/** Looks every 200 ms until something is found; what is not found in time is described, where somebody can. */
export async function eventually<T>(
  what: string,
  timeoutMs: number,
  look: () => Promise<T | undefined>,
  describe?: () => Promise<string>,
): Promise<T> {
  const end = Date.now() + timeoutMs;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (Date.now() > end)
      throw new Error(`${what}: not within ${timeoutMs} ms${describe ? `\n${await describe()}` : ''}`);
    await pause(200);
  }
}

/** sha256 of a file, read as a stream; `bytes` limits it to the first so many. */
export async function sha256(path: string, bytes?: number): Promise<string> {
  const hash = createHash('sha256');
  const end = bytes === undefined ? {} : { end: bytes - 1 };
  for await (const chunk of createReadStream(path, end)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/** qemu-img's own judgement that both hold the same disk; a longer tail of zeros is the same. */
export async function assertSameDisk(source: string, sourceFormat: string, disk: string): Promise<void> {
  await run('qemu-img', ['compare', '-f', sourceFormat, '-F', 'raw', source, disk]);
}
