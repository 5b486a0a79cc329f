import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { makePatterned, MIB, sha256, useDirectory } from '../support/images.js';
import { makeTarget, session, useDataPort } from './support.js';

const SIZE = 24 * MIB;

describe('sessions of one volume', function () {
  this.timeout(120_000);
  const directory = useDirectory();
  const server = useDataPort();
  let raw = '';
  before(() => {
    raw = makePatterned(`${directory()}/patterned.raw`, SIZE / MIB);
  });
  const make = () => makeTarget(directory(), SIZE, server, { lingerMs: 500 });

  it('forget what another one has sent when their own first byte comes, not before', async () => {
    const target = await make();
    const content = readFileSync(raw);
    const one = session({ length: SIZE, resumable: true });
    const first = target.receive(one);
    assert.equal((await target.put(one, content.subarray(0, 16 * MIB))).status, 202);
    assert.equal((await first.done).outcome, 'interrupted');
    const { offset } = await target.locate(one);
    assert.equal(offset, 16 * MIB - 512);
    const two = session({ length: SIZE, resumable: true });
    const silent = await target.receive(two).done;
    assert.deepEqual([silent.outcome, 'offset' in silent && silent.offset], ['interrupted', 0]);
    assert.equal((await target.locate(one)).offset, offset);
    const third = target.receive(two);
    assert.equal((await target.put(two, content.subarray(0, 4 * MIB))).status, 202);
    assert.equal((await third.done).outcome, 'interrupted');
    assert.equal((await target.locate(one)).offset, 0);
    const last = target.receive(two);
    const from = (await target.locate(two)).offset;
    assert.equal((await target.put(two, content.subarray(from), { offset: from })).status, 200);
    assert.equal((await last.done).outcome, 'complete');
    assert.equal(sha256(target.disk), sha256(raw));
  });

  it('do not take a disk that an earlier one has completed, whatever its worker could still say', async () => {
    const target = await make();
    const one = session({ length: SIZE, resumable: true });
    const first = target.receive(one);
    assert.equal((await target.put(one, readFileSync(raw))).status, 200);
    assert.equal((await first.done).outcome, 'complete');
    // the activity's answer is lost with its worker; another client comes before it is tried again
    const two = session({ length: SIZE, resumable: true, checksum: `sha256:${'0'.repeat(64)}` });
    assert.equal((await target.locate(two)).finished, one.session);
    assert.equal((await target.locate(one)).offset, SIZE);
    const second = target.receive(two);
    const told = await target.put(two, Buffer.alloc(SIZE, 0xee));
    assert.equal(told.status, 409, told.text);
    assert.match(told.text, /"type":"ResourceExists"/);
    const found = await second.done;
    assert.deepEqual([found.outcome, 'session' in found && found.session], ['complete', one.session]);
    assert.equal(sha256(target.disk), sha256(raw));
    const same = { ...one, checksum: `sha256:${'0'.repeat(64)}` };
    const third = target.receive(same);
    assert.equal((await target.put(same, readFileSync(raw))).status, 409);
    assert.equal((await third.done).outcome, 'complete');
  });
});
