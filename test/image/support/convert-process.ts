/**
 * A program that converts an HTTP source into a file, to be killed: what it does is the JSON of its argument ({@link ConvertOrder}),
 * what comes of it is the JSON of the result on standard output.
 */
import { createRecordStore, type RecordStore } from '../../../activities/image/resume-record.js';
import { openSource } from '../../../activities/image/source/open-source.js';
import { convertInto, type ConvertIntoOptions } from './convert-into.js';

/** What the program is told. */
export interface ConvertOrder extends Required<Pick<ConvertIntoOptions, 'fence' | 'state'>> {
  readonly url: string;
  readonly target: string;
  readonly scratch?: string;
  readonly checksum?: string;
  /** Fetched bytes between two records; time makes none. */
  readonly everyBytes: number;
  /** Stand still there and say `held`, until killed. */
  readonly hold?: HoldingPoint;
}

/** All is written and nothing synced; all is synced and not recorded as done; recorded as done. */
export type HoldingPoint = 'syncing' | 'synced' | 'done';

const order = JSON.parse(process.argv[2] ?? '') as ConvertOrder;
const { url, target, state, everyBytes, ...options } = order;

function holdAt(point: HoldingPoint): void {
  if (order.hold !== point) return;
  process.stdout.write('held\n');
  // nothing of this process moves any more, as if the machine had no time for it
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}

const store = createRecordStore(state);
const records: RecordStore = {
  load: () => store.load(),
  async save(record) {
    if (record.result) holdAt('synced');
    await store.save(record);
    if (record.result) holdAt('done');
  },
};
const source = await openSource(
  { kind: 'http', url, headers: [], secretHeaders: [], insecureSkipVerify: false },
  { policy: { allowed: ['127.0.0.0/8'], denied: [] }, signal: new AbortController().signal },
);
const result = await convertInto(source, target, {
  ...options,
  state,
  records,
  checkpointEvery: { everyBytes, everyMs: Infinity },
  onProgress: ({ phase }) => phase === 'syncing' && holdAt('syncing'),
});
console.log(JSON.stringify(result));
process.exit(0);
