import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { WorkflowFailedError, type WorkflowHandle } from '@temporalio/client';
import { ApplicationFailure, RawValue } from '@temporalio/common';
import { CONTROL_QUEUE } from '../../workflows/task-queues.js';
import { WORKFLOW_TYPES } from '../../workflows/workflow-types.js';
import { useWorkers } from '../client/workers.js';

const PATIENCE_MS = 20_000;
/** End of a run that has none in that time. */
const RUNS = 'neither failed nor ended';
/** More than a search attribute holds. */
const LONG = 'x'.repeat(3_000);
const MANIFEST = {
  metadata: { name: 'disk', namespace: 'default' },
  spec: { source: { blank: {} }, storage: { resources: { requests: { storage: '1Gi' } } } },
};
/** An object that no string can be made of. */
const NO_TEXT = { toString: 1, valueOf: 1 };

/** Payloads that are read as no value, by what is said of them. */
const UNREADABLE: readonly (readonly [RawValue, RegExp])[] = [
  [payload('json/protobuf', '{'), /^the argument is no JSON, although its encoding is json\/protobuf: give /],
  [payload('json/protobuf'), /^the argument is no JSON, although its encoding is json\/protobuf: give /],
  [
    payload('json/plain', '{"name":'),
    /^the argument is no JSON, although its encoding is json\/plain: give /,
  ],
  [payload('json/plain'), /^the argument is no JSON, although its encoding is json\/plain: give /],
  [
    payload('binary/encrypted', '{}'),
    /^the argument is of the encoding "binary\/encrypted", which should be /,
  ],
  [payload('binary/protobuf', '\n'), /^the argument is of the encoding "binary\/protobuf", which should be /],
  [payload(LONG, '{}'), /^the argument is of the encoding "x{39}…, which should be json\/plain: give /],
  [payload(undefined, '{}'), /^the argument is of no encoding, which should be json\/plain: give /],
  [payload('binary/plain', '{}'), /^the argument is bytes, of the encoding binary\/plain: give /],
];

/** What the Temporal UI, its CLI and other programs can send, whatever is in it. */
function payload(encoding: string | undefined, data = ''): RawValue {
  const metadata = encoding === undefined ? {} : { encoding: Buffer.from(encoding) };
  return RawValue.fromPayload({ metadata, data: Buffer.from(data) });
}

/** Arguments that are nothing at all. */
const NOTHING: readonly unknown[] = [undefined, null, 5, true, [], [{}]];

/** Half a reference, and what is no reference, to an object with these members. */
function wrongReferences(...members: readonly string[]): readonly unknown[] {
  const whole = Object.fromEntries(members.map((member) => [member, 'x']));
  return members.flatMap((member) => {
    const { [member]: _, ...rest } = whole;
    const values = ['', null, 5, ['x'], {}, NO_TEXT, '..', 'a/b', LONG];
    return [rest, ...values.map((value) => ({ ...whole, [member]: value }))];
  });
}

const DATA_VOLUME = {
  type: 'InvalidDataVolume',
  inputs: [
    ...NOTHING,
    {},
    { uid: 'x' },
    { uid: 'x', metadata: { name: 'a' } },
    { ...MANIFEST, uid: null },
    { uid: 'a', namespace: 'default' },
    { uid: 5, name: [1], namespace: {} },
    { namespace: 'default', name: 'a', uid: 'x', retry: 5 },
    ...wrongReferences('namespace', 'name', 'uid'),
    { name: 'a', namespace: 'default' },
    { ...MANIFEST, metadata: null },
    { ...MANIFEST, metadata: 'disk' },
    { ...MANIFEST, metadata: {} },
    { ...MANIFEST, metadata: { name: NO_TEXT } },
    { ...MANIFEST, metadata: { name: LONG } },
    { ...MANIFEST, metadata: { name: 'disk', namespace: LONG } },
    { ...MANIFEST, metadata: { name: 'disk', namespace: '..' } },
    { ...MANIFEST, metadata: { name: 'disk', namespace: NO_TEXT } },
  ],
};
const CLAIM = {
  type: 'InvalidArgument',
  inputs: [...NOTHING, 'x', {}, ...wrongReferences('namespace', 'name', 'uid')],
};

/** By workflow: the type of the failure, and arguments that it refuses. */
const REFUSED: Readonly<Record<string, { readonly type: string; readonly inputs: readonly unknown[] }>> = {
  importDataVolume: DATA_VOLUME,
  blankDataVolume: DATA_VOLUME,
  cloneDataVolume: DATA_VOLUME,
  uploadDataVolume: DATA_VOLUME,
  provisionVolume: CLAIM,
  uploadClaim: {
    ...CLAIM,
    inputs: [...CLAIM.inputs, { namespace: 'a', name: 'b', uid: 'c', retry: 5 }],
  },
  reclaimVolume: {
    type: 'InvalidArgument',
    inputs: [...NOTHING, 'x', {}, ...wrongReferences('name', 'uid')],
  },
  returnReservedVolume: {
    type: 'InvalidArgument',
    inputs: [
      ...NOTHING,
      'x',
      {},
      ...wrongReferences('name', 'objectUid'),
      ...wrongReferences('namespace', 'name', 'uid').map((dataVolume) => ({
        name: 'x',
        objectUid: 'x',
        dataVolume,
      })),
    ],
  },
  // without an argument it sweeps everything
  sweep: {
    type: 'InvalidArgument',
    inputs: [...NOTHING.slice(1), 'n1', ...[5, null, '', [], {}, NO_TEXT, LONG].map((node) => ({ node }))],
  },
  deleteLocalBlockVolume: {
    type: 'InvalidLocalVolume',
    inputs: [
      ...NOTHING,
      'x',
      {},
      ...wrongReferences('name'),
      { name: 'x', node: 5 },
      { name: 'x', node: '' },
    ],
  },
  localBlockVolume: {
    type: 'InvalidLocalVolume',
    inputs: [...NOTHING, 'x', {}, ...wrongReferences('node'), { node: 'n1', name: NO_TEXT, size: '1Gi' }],
  },
  // what has no uid is a manifest, which the activity judges
  prepareStorage: {
    type: 'InvalidHostPathProvisioner',
    inputs: [...NOTHING, ...wrongReferences('name', 'uid').filter((input) => 'uid' in (input as object))],
  },
};

/** Workflows that look at no argument, whatever is given. */
const INDIFFERENT = ['examineNodes', 'publishCapacity', 'recheckNode'];

describe('the argument of a workflow', function () {
  this.timeout(120_000);
  /** Activities that ran. */
  const ran: string[] = [];
  /** What a DataVolume that is opened waits for. */
  let opening: Promise<unknown> = Promise.resolve();

  const server = useWorkers({
    workflows: new URL('../../workflows/index.ts', import.meta.url),
    queues: () => ({ [CONTROL_QUEUE]: activities(called) }),
  });
  beforeEach(() => {
    ran.splice(0);
    opening = Promise.resolve();
  });

  async function called(name: string): Promise<void> {
    ran.push(name);
    if (name === 'openDataVolume') await opening;
  }

  let count = 0;
  async function start(type: string, input: unknown): Promise<WorkflowHandle> {
    return await server().client.workflow.start(type, {
      workflowId: `${type}-${(count += 1)}`,
      taskQueue: CONTROL_QUEUE,
      args: input === undefined ? [] : [input],
    });
  }

  it('is of workflows that are all looked at here', async () => {
    assert.deepEqual([...WORKFLOW_TYPES].sort(), [...Object.keys(REFUSED), ...INDIFFERENT].sort());
    const exported = Object.keys(await import('../../workflows/index.js'));
    assert.deepEqual(exported.sort(), [...WORKFLOW_TYPES, 'default'].sort());
  });

  for (const [type, { type: failureType, inputs }] of Object.entries(REFUSED))
    it(`${type}: what is wrong, missing or half is refused at once, with ${failureType}`, async () => {
      await Promise.all(
        inputs.map(async (input) => {
          const given = `${type} ${JSON.stringify(input)?.slice(0, 80)}`;
          const handle = await start(type, input);
          const failure = await failureOf(handle, given);
          assert.equal(failure.type, failureType, `${given}: ${failure.message}`);
          assert.equal(failure.nonRetryable, true);
          assert.match(failure.message, /^(the argument|"[\w.]+") is .+: give .+/, given);
          assert.ok(failure.message.length < 400, failure.message);
          const { events } = await handle.fetchHistory();
          // started, its one task in three events, failed: nothing was told to anybody
          assert.equal(events?.length, 5, given);
        }),
      );
      assert.deepEqual(ran, []);
    });

  for (const [type, { type: failureType }] of Object.entries(REFUSED))
    it(`${type}: a payload that cannot be read is refused, too`, async () => {
      await Promise.all(
        UNREADABLE.map(async ([input, said]) => {
          const failure = await failureOf(await start(type, input), `${type} ${String(said)}`);
          assert.equal(failure.type, failureType);
          assert.match(failure.message, said);
          assert.ok(failure.message.length < 400, failure.message);
        }),
      );
      assert.deepEqual(ran, []);
    });

  it('is read from the JSON of a message of protobuf, too', async () => {
    const failure = await failureOf(await start('sweep', payload('json/protobuf', '{"node":5}')), 'sweep');
    assert.match(failure.message, /^"node" is 5, not text: give /);
  });

  it('of a signal that cannot be read is passed over: the run goes on', async () => {
    let go = (): void => undefined;
    opening = new Promise<void>((resolve) => (go = resolve));
    const handle = await start('blankDataVolume', { namespace: 'a', name: 'b', uid: 'c' });
    const unreadable = UNREADABLE.map(([input]) => input);
    for (const input of [...unreadable, payload('json/protobuf', '{}'), null])
      await handle.signal('wake', input);
    go();
    assert.equal(await endOf(handle), 'succeeded');
    const { events } = await handle.fetchHistory();
    assert.ok(events?.every(({ workflowTaskFailedEventAttributes: failed }) => !failed));
  });

  for (const type of Object.keys(REFUSED).filter((name) => name.endsWith('DataVolume')))
    it(`${type}: a name in the text of a manifest that no search attribute holds is refused, too`, async () => {
      const failure = await failureOf(await start(type, 'the text of a manifest'), type);
      assert.equal(failure.type, 'InvalidDataVolume');
      assert.match(failure.message, /^"metadata.name" is of 3000 characters, more than 253: give /);
      assert.deepEqual(ran, ['nameDataVolume']);
    });

  for (const [type, meant] of [
    ['blankdatavolume', 'blankDataVolume'],
    ['Clone-Data-Volume ', 'cloneDataVolume'],
    ['import', 'importDataVolume'],
    ['upload', 'uploadClaim or uploadDataVolume'],
  ] as const)
    it(`a type that is none, ${type}, is refused by the name that was meant`, async () => {
      const failure = await failureOf(await start(type, {}), type);
      assert.equal(failure.type, 'InvalidArgument');
      assert.equal(failure.message, `there is no workflow type ${type}: start ${meant}`);
    });

  it('a type that a newer worker may know waits for that', async () => {
    const handle = await start('resizeDataVolume', {});
    const hasFailed = async (): Promise<boolean> => {
      const { events } = await handle.fetchHistory();
      return events?.some(({ workflowTaskFailedEventAttributes: failed }) => failed) ?? false;
    };
    while (!(await hasFailed())) await pause(100);
    assert.equal((await handle.describe()).status.name, 'RUNNING');
    await handle.terminate();
  });

  for (const type of INDIFFERENT)
    it(`${type}: nobody looks at it`, async () => {
      const unreadable = UNREADABLE.map(([input]) => input);
      for (const input of [...NOTHING, 'x', { node: 5 }, ...unreadable])
        await (await start(type, input)).result();
    });

  it('sweep: everything is swept without one', async () => {
    for (const input of [undefined, {}]) {
      const result: unknown = await (await start('sweep', input)).result();
      assert.deepEqual(result, { found: 0, removed: [], silentNodes: [] });
    }
  });

  it('is not believed to come from another run: what that hands on is left alone', async () => {
    const claim = { namespace: 'a', name: 'b', uid: 'c' };
    // a deadline of NaN, or scratch space that is none, would fail the workflow's task
    const handedOn = { progressAt: 'never', upload: null, clone: 5, made: { machineConfigs: 5 } };
    for (const [type, ref] of [
      ['provisionVolume', claim],
      ['uploadClaim', claim],
      ['uploadDataVolume', claim],
      ['prepareStorage', { name: 'b', uid: 'c' }],
    ] as const) {
      const handle = await start(type, { ...ref, ...handedOn });
      assert.notEqual(await endOf(handle), RUNS, type);
      const { events } = await handle.fetchHistory();
      assert.ok(
        events?.every(({ workflowTaskFailedEventAttributes: failed }) => !failed),
        type,
      );
    }
  });
});

/** What the workflow failed of, within seconds. */
async function failureOf(handle: WorkflowHandle, given: string): Promise<ApplicationFailure> {
  const end = await endOf(handle);
  assert.ok(end instanceof WorkflowFailedError, `${given}: ${String(end)}`);
  const { cause } = end;
  assert.ok(cause instanceof ApplicationFailure, `${given}: ${String(cause)}`);
  return cause;
}

/** How the workflow ended: an error, or in words. */
async function endOf(handle: WorkflowHandle): Promise<unknown> {
  const late = new AbortController();
  const succeeded = (): unknown => 'succeeded';
  try {
    return await Promise.race([
      handle.result().then(succeeded, (error: unknown) => error),
      pause(PATIENCE_MS, RUNS, { signal: late.signal }),
    ]);
  } finally {
    late.abort();
  }
}

/** Answers of a cluster with nothing in it, once `called` has heard of each. */
function activities(
  called: (name: string) => Promise<void>,
): Record<string, (input: never) => Promise<unknown>> {
  const answers: Readonly<Record<string, unknown>> = {
    nameDataVolume: { namespace: 'default', name: LONG },
    listNodes: { nodes: [], pools: [] },
    listUnpublished: [],
    listNodePools: [],
    publishCapacity: undefined,
    listHostPathProvisioners: [],
    planVolume: { done: 'the claim is gone' },
    openUploadClaim: { facts: { namespace: 'a', name: 'b', uid: 'c', phase: '' } },
    openDataVolume: { namespace: 'a', name: 'b', uid: 'c', source: 'upload', phase: '', finished: true },
    openHostPathProvisioner: {},
    removePreparation: { machineConfigs: [], pools: [], storageClasses: [] },
  };
  return Object.fromEntries(
    Object.entries(answers).map(([name, answer]) => [
      name,
      async () => {
        await called(name);
        return answer;
      },
    ]),
  );
}
