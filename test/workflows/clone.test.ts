import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import type { WorkflowHandle } from '@temporalio/client';
import { permanentFailure, transientFailure } from '../../activities/failures.js';
import type { CloneOrigin, CloneStarted, OriginAwaited } from '../../activities/types/clone.js';
import type { StatusUpdate } from '../../activities/types.js';
import { wakeSignal } from '../../workflows/messages.js';
import { CONTROL_QUEUE, nodeQueue, transferQueue } from '../../workflows/task-queues.js';
import { useWorkers } from '../client/workers.js';

/** Events after which a run of these tests is to continue as new. */
const LONG = 150;
/** Bytes of other volumes on a node that has no room. */
const FULL = 1 << 30;
/** Later than a reservation may take. */
const TOO_LATE = { nextRetryDelayMs: 600_000 };
const SIZES = { bytes: 1 << 20, allocatedBytes: 0 };

/** The source as it may be found. */
const origin = (name = 'golden', uid = 'uid-of-golden'): CloneOrigin => ({
  claim: { namespace: 'a', name, uid },
  volume: {
    node: 'n1',
    volume: 'pv',
    volumeUid: `volume-of-${uid}`,
    volumeMode: 'Filesystem',
    path: '/pool/x',
  },
  contentType: 'kubevirt',
  requestBytes: 1 << 20,
  capacityBytes: 1 << 20,
  labels: { 'instancetype.kubevirt.io/default-instancetype': 'u1.small' },
});
const waits = (reason: string, counts = false): OriginAwaited => ({
  waiting: { reason, message: `because of ${reason}`, counts },
});

/** What a reservation is for. */
interface Reserving {
  readonly dataVolume: { readonly uid: string };
  readonly claim: { readonly uid: string };
}

/** What one run of the workflow finds, and what it did. */
interface World {
  /** Answers to looks at the source, the last one again and again. */
  looks: (CloneOrigin | OriginAwaited)[];
  readonly pinned: (string | undefined)[];
  readonly planned: { readonly origin: CloneOrigin; readonly content: object }[];
  readonly annotated: object[];
  readonly labels: unknown[];
  readonly statuses: Omit<StatusUpdate, 'dataVolume'>[];
  readonly generations: number[];
  readonly deadlineMs?: number;
  /** Called by each run that begins. */
  begun?: () => void;
  /** Looks at the room of the node that find none. */
  full?: number;
  /** Node n1, which has no room, holds a reservation of it; n2, where its source is, has room. */
  readonly held?: boolean;
  /** Reservations that find a pool which does not answer, until the next try would come too late. */
  hung?: number;
  /** The DataVolume is gone, and nobody has told the run. */
  readonly deleted?: boolean;
  /** How long a transfer lasts that moves nothing and fails, in ms. */
  readonly stuckMs?: number;
  /** The claim was deleted by hand. */
  claimLost?: boolean;
  /** A claim that holds the disk is there when the target is judged. */
  restored?: boolean;
}

describe('the lifecycle of a clone, with other activities', function () {
  this.timeout(90_000);
  const worlds = new Map<string, World>();

  const server = useWorkers({
    workflows: new URL('../../workflows/clone-data-volume.ts', import.meta.url),
    queues: () => ({
      [CONTROL_QUEUE]: kubernetes,
      [nodeQueue('n1')]: node,
      [transferQueue('n1')]: node,
      [nodeQueue('n2')]: otherNode,
    }),
    settings: { 'limit.historyCount.suggestContinueAsNew': LONG },
  });

  const worldOf = ({ dataVolume }: { dataVolume: { uid: string } }): World => worlds.get(dataVolume.uid)!;
  const kubernetes = {
    openDataVolume: async ({ start }: { start: { name: string; uid: string } }) => {
      const { begun, deadlineMs = 3_600_000 } = worlds.get(start.uid)!;
      begun?.();
      return {
        namespace: 'a',
        name: start.name,
        uid: start.uid,
        source: 'sourceRef',
        displayUrl: 'a/os',
        contentType: 'kubevirt',
        phase: '',
        deadlineMs,
      };
    },
    recordStatus: async (update: StatusUpdate) => {
      const { statuses, deleted = false } = worldOf(update);
      statuses.push(update);
      return { exists: !deleted };
    },
    judgeTarget: async (input: { dataVolume: { uid: string } }) =>
      worldOf(input).restored ? { claim: 'adopt', adoptUid: 'uid-of-restored' } : { claim: 'create' },
    adoptClaim: async () => ({ namespace: 'a', name: 'restored', uid: 'uid-of-restored', volume: 'pv' }),
    findCloneOrigin: async (input: { dataVolume: { uid: string }; found?: { name: string } }) => {
      const { looks, pinned } = worldOf(input);
      pinned.push(input.found?.name);
      return looks.length > 1 ? looks.shift() : looks[0];
    },
    planClone: async (input: { dataVolume: { uid: string }; origin: CloneOrigin; content: object }) => {
      worldOf(input).planned.push(input);
      return {
        claim: 'create',
        storageClass: 'hostpath',
        provisioner: 'kubevirt.io/hostpath-provisioner',
        bindingMode: 'WaitForFirstConsumer',
        reclaimPolicy: 'Delete',
        waitForConsumer: false,
        accessModes: ['ReadWriteOnce'],
        volumeMode: 'Filesystem',
        requestBytes: 1 << 20,
        usableBytes: 1 << 20,
        overhead: 0,
        api: 'storage',
        pool: { name: 'p', path: '/pool', useNamingPrefix: false },
        preallocation: false,
      };
    },
    ensureClaim: async (input: { dataVolume: { name: string; uid: string }; labels?: object }) => {
      worldOf(input).labels.push(input.labels);
      return { namespace: 'a', name: input.dataVolume.name, uid: input.dataVolume.uid };
    },
    listCandidates: async ({ claim }: { claim: { name: string } }) => {
      const world = worlds.get(claim.name)!;
      world.full = (world.full ?? 0) - 1;
      const foreignBytes = world.held || world.full >= 0 ? FULL : 0;
      const other = world.held ? [{ node: 'n2', hostname: 'n2', foreignBytes: 0 }] : [];
      return { candidates: [{ node: 'n1', hostname: 'n1', foreignBytes }, ...other], chosenBy: 'any' };
    },
    confirmClaim: async ({ claim }: { claim: { name: string } }) => {
      if (worlds.get(claim.name)!.claimLost) throw permanentFailure('ClaimLost', 'its claim is gone');
    },
    annotateClone: async (input: { dataVolume: { uid: string } }) =>
      void worldOf(input).annotated.push(input),
    observeTransfer: async () => ({ bytes: 0 }),
    deleteClaim: async () => undefined,
    deleteUnpublishedVolume: async () => undefined,
  };
  const node = {
    measureOrigin: async () => SIZES,
    observePool: async ({ foreignBytes, of }: { foreignBytes: number; of?: Reserving }) => ({
      node: 'n1',
      ...(of && of.claim.uid === of.dataVolume.uid && worldOf(of).held ? { held: true } : {}),
      roomBytes: FULL - foreignBytes,
      totalBytes: 1 << 30,
      promisedBytes: 0,
      availableBytes: 1 << 30,
    }),
    reserveDirectory: async (input: Reserving) => {
      const world = worldOf(input);
      if (world.held) throw permanentFailure('ImageInvalid', 'reserved on n1');
      world.hung = (world.hung ?? 0) - 1;
      if (world.hung >= 0) throw transientFailure('NodeUnavailable', 'it hangs', TOO_LATE);
      const { dataVolume } = input;
      return {
        node: 'n1',
        hostname: 'n1',
        pool: '/pool',
        directory: 'd',
        dataVolume,
        promisedBytes: 1 << 20,
      };
    },
    removeDirectory: async () => undefined,
    chooseCloneMethod: async () => ({ method: 'copy', reason: 'r', fallback: 'NoReflink: r' }),
    transferImage: async (input: {
      target: { dataVolume: { uid: string } };
      clone: { generation: number };
    }) => {
      const { generations, stuckMs } = worldOf(input.target);
      generations.push(input.clone.generation);
      if (stuckMs !== undefined) {
        await pause(stuckMs);
        throw permanentFailure('ImageInvalid', 'its transfer moved nothing');
      }
      return { virtualSize: 1 << 20, bytesTransferred: 0, bytesWritten: 0 };
    },
    // whoever came so far has what these tests are about
    verifyImage: async () => {
      throw permanentFailure('ImageInvalid', 'the end of the test');
    },
  };

  const otherNode = {
    measureOrigin: node.measureOrigin,
    observePool: async () => ({ ...(await node.observePool({ foreignBytes: 0 })), node: 'n2' }),
    reserveDirectory: async () => {
      throw permanentFailure('ImageInvalid', 'reserved on n2');
    },
    removeDirectory: async () => undefined,
  };

  async function start(
    name: string,
    looks: World['looks'],
    { clone, ...more }: { readonly clone?: CloneStarted } & Partial<World> = {},
  ): Promise<{ world: World; handle: WorkflowHandle; failure: () => Promise<string> }> {
    const world: World = {
      looks,
      pinned: [],
      planned: [],
      annotated: [],
      labels: [],
      statuses: [],
      generations: [],
      ...more,
    };
    worlds.set(name, world);
    const handle = await server().client.workflow.start('cloneDataVolume', {
      taskQueue: CONTROL_QUEUE,
      workflowId: name,
      args: [{ namespace: 'a', name, uid: name, ...(clone ? { clone } : {}) }],
    });
    async function failure(): Promise<string> {
      const error = await handle.result().then(
        () => undefined,
        (reason: { cause: { message: string; type?: string; cause?: { message: string; type: string } } }) =>
          reason.cause,
      );
      const { type, message } = error?.cause ?? error ?? { message: 'succeeded' };
      return `${type}: ${message}`;
    }
    return { world, handle, failure };
  }

  const reason = ({ statuses }: World): string | undefined =>
    statuses.at(-1)?.conditions?.find(({ type }) => type === 'Running')?.reason;

  async function until(what: string, holds: () => boolean): Promise<void> {
    for (let left = 200; !holds(); left -= 1) {
      assert.ok(left > 0, what);
      await pause(100);
    }
  }

  /** Wakes the run until its history is so long that another one goes on for it. */
  async function untilItGoesOn(handle: WorkflowHandle): Promise<void> {
    const { runId } = await handle.describe();
    for (let wakes = 0; (await handle.describe()).runId === runId; wakes += 1) {
      assert.ok(wakes < LONG, 'it never continues as new');
      await handle.signal(wakeSignal);
      await pause(50);
    }
  }

  it('is cancelled, and has not failed, when what it fails of is that its DataVolume is gone', async () => {
    const { world, handle } = await start('deleted', [origin()], { deleted: true });
    await until('it fails', () => world.statuses.some(({ phase }) => phase === 'Failed'));
    await handle.cancel();
    await assert.rejects(handle.result());
    assert.equal((await handle.describe()).status.name, 'CANCELLED');
  });

  it('clones what it found first when it continues as new, in the size that it had then', async () => {
    const { world, handle, failure } = await start('goes-on', [origin(), waits('CloneSourceInUse', true)]);
    await until('it waits', () => reason(world) === 'CloneSourceInUse');
    await untilItGoesOn(handle);
    // by now the DataSource names another one, and the disk would be larger
    const other = { ...SIZES, bytes: 2 << 20 };
    const { measureOrigin } = node;
    node.measureOrigin = async () => other;
    try {
      world.looks = [origin('other', 'another')];
      await until('the next run waits', () => world.labels.length === 2);
      world.looks = [origin()];
      await handle.signal(wakeSignal);
      assert.equal(await failure(), 'ImageInvalid: the end of the test');
    } finally {
      node.measureOrigin = measureOrigin;
    }
    // the claim is made by one plan
    assert.deepEqual(
      world.planned.map((plan) => [plan.origin.claim, plan.content]),
      [[origin().claim, SIZES]],
    );
    assert.deepEqual([...new Set(world.pinned.slice(1))], ['golden']);
  });

  it('ends at once when its claim is deleted while its source is in use', async () => {
    const { world, handle, failure } = await start('lost', [origin(), waits('CloneSourceInUse', true)]);
    await until('it waits', () => reason(world) === 'CloneSourceInUse');
    world.claimLost = true;
    await handle.signal(wakeSignal);
    assert.equal(await failure(), 'ClaimLost: its claim is gone');
  });

  it('has its whole deadline when it goes on for a run that waited for its source longer than that', async () => {
    const deadlineMs = 8_000;
    const { world, handle, failure } = await start('slow', [waits('ImportPVCNotReady')], { deadlineMs });
    await until('it waits', () => reason(world) === 'ImportPVCNotReady');
    await pause(deadlineMs);
    world.begun = () => (world.looks = [origin()]);
    world.full = 1;
    await untilItGoesOn(handle);
    assert.equal(await failure(), 'ImageInvalid: the end of the test');
    // it waited for room, and not for long
    assert.ok(world.full < 0);
  });

  it('has its whole deadline when its source is there but in use, after it waited for it longer than that', async () => {
    const deadlineMs = 8_000;
    const { world, handle, failure } = await start('used', [waits('ImportPVCNotReady')], { deadlineMs });
    await until('it waits', () => reason(world) === 'ImportPVCNotReady');
    await pause(deadlineMs);
    await handle.signal(wakeSignal);
    await until('time stands still', () => world.pinned.length > 1);
    world.looks = [waits('CloneSourceInUse', true)];
    await handle.signal(wakeSignal);
    await until('it waits on', () => reason(world) === 'CloneSourceInUse');
    world.looks = [origin()];
    await handle.signal(wakeSignal);
    assert.equal(await failure(), 'ImageInvalid: the end of the test');
  });

  it('takes a volume that is kept for its claim, and came while it waited for its source', async () => {
    const { world, handle, failure } = await start('restored', [waits('CloneWithoutSource')]);
    await until('it waits', () => reason(world) === 'CloneWithoutSource');
    world.restored = true;
    world.looks = [{ ...waits('CloneWithoutSource'), kept: true as const }];
    await handle.signal(wakeSignal);
    assert.equal(await failure(), 'undefined: succeeded');
    assert.equal(world.statuses.at(-1)?.phase, 'Succeeded');
  });

  it('is given up when its source is in use longer than the deadline', async () => {
    const { failure } = await start('kept', [waits('CloneSourceInUse', true)], { deadlineMs: 6_000 });
    assert.match(await failure(), /^DeadlineExceeded: .* because of CloneSourceInUse$/);
  });

  it('goes back to the node that holds its reservation, although another one has room and its source', async () => {
    const found = origin();
    const looks = [{ ...found, volume: { ...found.volume, node: 'n2' } }];
    const { failure } = await start('held', looks, { held: true });
    assert.equal(await failure(), 'ImageInvalid: reserved on n1');
  });

  it('waits for a pool that stops to answer while it reserves a directory there', async () => {
    const { world, handle, failure } = await start('hung', [origin()], { hung: 1 });
    await until('it waits', () => reason(world) === 'InsufficientCapacity');
    const message = world.statuses.at(-1)?.conditions?.find(({ type }) => type === 'Running')?.message;
    assert.match(message ?? '', /it hangs/);
    await handle.signal(wakeSignal);
    assert.equal(await failure(), 'ImageInvalid: the end of the test');
  });

  it('transfers by the deadline that was changed while it waited', async () => {
    const { world, handle, failure } = await start('hurried', [origin()], {
      full: Infinity,
      stuckMs: 15_000,
    });
    await until('it waits', () => reason(world) === 'InsufficientCapacity');
    world.full = 0;
    await handle.signal(wakeSignal, { deadlineMs: 5_000 });
    const message = 'no progress for 5000 ms (dvflow.io/deadline) while waiting: clone of a/golden';
    assert.equal(await failure(), `DeadlineExceeded: ${message}`);
  });

  it('believes nobody but itself what it found', async () => {
    const clone = { origin: origin('secret', 'not-theirs'), content: SIZES, generation: 1 };
    const { world, failure } = await start('forged', [origin()], { clone });
    assert.equal(await failure(), 'ImageInvalid: the end of the test');
    assert.deepEqual(world.planned[0]?.origin.claim, origin().claim);
    assert.deepEqual(world.pinned, [undefined, 'golden', 'golden']);
  });

  it('fails by name when a source that it found is deleted while it waits', async () => {
    const { world, handle, failure } = await start('gone', [origin(), waits('CloneSourceInUse', true)]);
    await until('it waits', () => reason(world) === 'CloneSourceInUse');
    world.looks = [waits('CloneWithoutSource')];
    await handle.signal(wakeSignal);
    assert.equal(await failure(), 'SourceNotFound: source claim a/golden was deleted before it was cloned');
  });

  it('says what is cloned before it waits for it, and hands the labels of the source to the claim', async () => {
    const { world, failure } = await start('told', [origin(), waits('CloneSourceInUse', true)]);
    await until('it waits', () => reason(world) === 'CloneSourceInUse');
    assert.equal(world.annotated.length, 1);
    assert.deepEqual((world.annotated[0] as { origin: CloneOrigin }).origin, origin());
    assert.deepEqual(world.labels, [origin().labels]);
    world.looks = [origin()];
    assert.equal(await failure(), 'ImageInvalid: the end of the test');
  });

  it('waits for the node of a source that was read, and reads one again that somebody fills', async () => {
    const { world, handle, failure } = await start('read', [
      origin(),
      origin(),
      waits('ImportPVCNotReady'),
      origin(),
      waits('NodeUnavailable', true),
    ]);
    await until('it waits', () => reason(world) === 'NodeUnavailable');
    assert.deepEqual(world.generations, [1, 2]);
    world.looks = [origin()];
    await handle.signal(wakeSignal);
    assert.equal(await failure(), 'ImageInvalid: the end of the test');
    assert.deepEqual(world.generations, [1, 2]);
  });

  it('fails by name when its source is deleted, or another one, while it is read', async () => {
    const deleted = await start('deleted', [origin(), origin(), waits('CloneWithoutSource')]);
    assert.match(
      await deleted.failure(),
      /^SourceNotFound: source claim a\/golden was deleted while it was cloned/,
    );
    const another = await start('another', [origin(), origin(), origin('golden', 'another')]);
    assert.match(await another.failure(), /^SourceNotFound: .* another one has its name$/);
  });
});
