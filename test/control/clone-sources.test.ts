import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import type { V1Pod } from '@kubernetes/client-node';
import { permanentFailure, transientFailure } from '../../activities/failures.js';
import { once } from '../../activities/kubernetes/clone/users.js';
import type { DataVolume } from '../../activities/kubernetes/objects.js';
import type { CloneControlActivities, OriginAwaited } from '../../activities/types/clone.js';
import { watchCloneSources } from '../../workers/control/clone-sources.js';

type Find = CloneControlActivities['findCloneOrigin'];

const IN_USE = { reason: 'CloneSourceInUse', message: 'pod a/vm using PersistentVolumeClaim old' };

interface Options {
  readonly spec?: object;
  readonly phase?: string;
  readonly mark?: string;
  readonly said?: { readonly reason: string; readonly message: string };
}

/** A clone that waits, as the watch knows it. */
function clone(name: string, { spec, phase = 'Pending', mark, said = IN_USE }: Options = {}): DataVolume {
  return {
    metadata: {
      namespace: 'a',
      name,
      uid: name,
      ...(mark ? { annotations: { 'dvflow.io/clone-source': mark } } : {}),
    },
    spec: spec ?? { sourceRef: { kind: 'DataSource', name: 'os' } },
    status: { phase, conditions: [{ type: 'Running', status: 'False', ...said }] },
  } as unknown as DataVolume;
}

const waiting = (said = IN_USE): OriginAwaited => ({ waiting: { ...said, counts: true } });
const nowReady = { claim: { namespace: 'a', name: 'new', uid: 'n' } } as Awaited<ReturnType<Find>>;

/** Whom one round wakes, and what it asks for. */
async function round(
  clones: readonly DataVolume[],
  find: Find,
): Promise<{ woken: readonly string[]; asked: readonly (string | undefined)[] }> {
  const woken: string[] = [];
  const asked: (string | undefined)[] = [];
  const watching = watchCloneSources({
    watch: {
      served: () => clones.map((dataVolume) => ({ dataVolume, workflowId: dataVolume.metadata.uid })),
      wake: (key) => void woken.push(key),
    },
    lookAround: () => async (input) => {
      asked.push(input.found && `${input.found.namespace}/${input.found.name}`);
      return await find(input);
    },
    logger: { debug: () => undefined },
  });
  await pause(100);
  await watching.stop();
  return { woken, asked };
}

describe('the watch of clones that wait for their source', () => {
  it('looks at what the clone waits for, whatever its DataSource names by now', async () => {
    const find: Find = async ({ found }) => (found ? waiting() : nowReady);
    const pinned = clone('pinned', { phase: 'CloneScheduled', mark: 'b/old' });
    assert.deepEqual(await round([pinned], find), { woken: [], asked: ['b/old'] });
  });

  it('looks where the reference leads while the clone has found nothing, also in a second run', async () => {
    const again = clone('again', { mark: 'b/old', said: { reason: 'CloneWithoutSource', message: 'x' } });
    assert.deepEqual(await round([again], async () => nowReady), { woken: ['a/again'], asked: [undefined] });
  });

  it('wakes for another reason and for another message, and for nothing else', async () => {
    const said = { ...IN_USE, message: 'pod a/other using PersistentVolumeClaim old' };
    const pod = clone('other-pod', { said });
    const kind = clone('other-kind', { said: { reason: 'ImportPVCNotReady', message: IN_USE.message } });
    const { woken } = await round([clone('same'), pod, kind], async () => waiting());
    assert.deepEqual(woken, ['a/other-pod', 'a/other-kind']);
  });

  it('looks once at what many wait for', async () => {
    const spec = { source: { pvc: { namespace: 'b', name: 'golden' } } };
    const many = Array.from({ length: 100 }, (_, index) => clone(`c${index}`, { spec }));
    const { woken, asked } = await round([...many, clone('by-reference')], async () => nowReady);
    assert.deepEqual(asked, ['b/golden', undefined]);
    assert.equal(woken.length, 101);
  });

  it('lets alone each that finds what it said, also the one whose own claim the DataSource names', async () => {
    const itself = {
      reason: 'CloneWithoutSource',
      message: 'a/aaa is the one that this DataVolume is to make',
    };
    const missing = { reason: 'CloneWithoutSource', message: "a/aaa doesn't exist" };
    const find: Find = async ({ dataVolume }) => waiting(dataVolume.name === 'aaa' ? itself : missing);
    const both = [clone('aaa', { said: itself }), clone('bbb', { said: missing })];
    assert.deepEqual((await round(both, find)).woken, []);
    assert.deepEqual((await round(both.toReversed(), find)).woken, []);
    // once, until each has looked itself
    const before = [clone('aaa'), clone('bbb')];
    assert.deepEqual((await round(before, find)).woken, ['a/aaa', 'a/bbb']);
  });

  it('leaves what is wrong with a source to the run, and waits while Kubernetes is away', async () => {
    const of = async (error: Error): Promise<readonly string[]> =>
      (await round([clone('one')], async () => await Promise.reject(error))).woken;
    assert.deepEqual(await of(permanentFailure('UnsupportedSource', 'no')), ['a/one']);
    assert.deepEqual(await of(transientFailure('KubernetesUnavailable', 'away')), []);
  });

  it('lists the pods of a namespace once a look around', async () => {
    const listed: string[] = [];
    const list = once(async (namespace): Promise<readonly V1Pod[]> => {
      listed.push(namespace);
      return await Promise.resolve([]);
    });
    await Promise.all(['a', 'b', 'a', 'a'].map(async (namespace) => await list(namespace)));
    assert.deepEqual(listed, ['a', 'b']);
  });
});
