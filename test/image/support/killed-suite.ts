import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { createRandom } from '../../support/random.js';
import type { HoldingPoint } from './convert-process.js';
import { useDirectory } from './images.js';
import { killRepeatedly, prepare, type KillOptions } from './killed.js';
import { KILLED_WAYS, type KilledWay } from './killed-ways.js';

/** Set it to have the kills of a failed run again. */
const SEED = Number(process.env['DVFLOW_KILL_SEED'] ?? randomInt(2 ** 32));
/** Ways whose image is so slow to make that it is made smaller. */
const SMALLER = { pattern: /\bxz\b/u, part: 1 / 4 };

/** How thoroughly a suite kills. */
export interface KillSuite extends Pick<KillOptions, 'kills' | 'mebibytes' | 'everyBytes'> {
  /** Of {@link KILLED_WAYS}. */
  readonly ways: readonly string[];
}

/** Tests that kill readers of each way. */
export function describeKills({ ways, ...how }: KillSuite): void {
  describe(`kill -9 of a reader, ${how.kills} times a way (DVFLOW_KILL_SEED=${SEED})`, function () {
    this.timeout(600_000);
    const directory = useDirectory();
    const optionsOf = (name: string): KillOptions => ({
      ...how,
      mebibytes: Math.ceil(how.mebibytes * (SMALLER.pattern.test(name) ? SMALLER.part : 1)),
      seed: SEED,
      directory: `${directory()}/${name.replaceAll(' ', '-')}`,
    });
    for (const name of ways)
      it(`ends with the same disk, and little is fetched again: ${name}`, () =>
        killRepeatedly(name, wayOf(name), optionsOf(name)));

    for (const name of ['qcow2 by ranges', 'raw in gz'])
      it(`ends with the same disk, killed at once and at the end: ${name}`, () =>
        killAtEnds(wayOf(name), optionsOf(name)));
  });
}

function wayOf(name: string): KilledWay {
  const way = KILLED_WAYS[name];
  assert.ok(way, name);
  return way;
}

/** Before anything happens, at the first byte, while all is synced, before that is recorded, and after it. */
async function killAtEnds(way: KilledWay, options: KillOptions): Promise<void> {
  await using victim = await prepare(way, options, createRandom(`${options.seed}/ends`));
  assert.deepEqual(await victim.attempt({ afterBytes: 0 }), { killed: true, sent: 0 });
  assert.ok((await victim.attempt({ afterBytes: 1 })).killed);
  for (const hold of ['syncing', 'synced', 'done'] satisfies HoldingPoint[])
    assert.ok((await victim.attempt({ hold })).killed, hold);
  // the record of the one before says all: the source is not even asked
  assert.deepEqual(await victim.attempt({}), { killed: false, sent: 0 });
  await victim.assertDone();
}
