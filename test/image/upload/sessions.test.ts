import assert from 'node:assert/strict';
import { readFileSync, rmSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
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
  // runs from when a session opens, before its client has connected
  const make = () => makeTarget(directory(), SIZE, server, { lingerMs: 2_000 });

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

  it('begin again where what was kept of the file is gone', async () => {
    const target = await make();
    const content = readFileSync(raw);
    const scratch = await target.reserveScratch(SIZE);
    const spooling = { scratch, spool: true };
    const request = session({ length: SIZE, resumable: true });
    const first = target.receive(request, spooling);
    assert.equal((await target.put(request, content.subarray(0, 8 * MIB))).status, 202);
    assert.equal((await first.done).outcome, 'interrupted');
    assert.equal((await target.locate(request)).offset, 8 * MIB);
    rmSync(`${target.pool}/${scratch.directory.directory}/upload-${request.session}`);
    const second = target.receive(request, spooling);
    const told = await target.put(request, content.subarray(8 * MIB), { offset: 8 * MIB });
    assert.deepEqual([told.status, told.headers['upload-offset']], [408, '0'], told.text);
    assert.match(told.text, /what was kept of it is gone/);
    assert.equal((await second.done).outcome, 'interrupted');
    assert.equal((await target.locate(request)).offset, 0);
    const third = target.receive(request, spooling);
    assert.equal((await target.put(request, content)).status, 200);
    assert.equal((await third.done).outcome, 'complete');
  });

  it('that wait for a slot with their body count as received, and are told where there will be no reception', async () => {
    const target = await make();
    const request = session({ length: SIZE });
    const other = session({ length: SIZE });
    const putting = target.put(request, readFileSync(raw));
    for (let tries = 0; tries < 400 && !(await target.locate(other)).receiving; tries += 1) await pause(50);
    assert.equal((await target.locate(other)).receiving, request.session);
    await target.dismiss('UploadTargetInUse', 'pod p uses it', { retryable: true, session: request.session });
    const told = await putting;
    assert.match(told.text, /"type":"UploadTargetInUse","message":"pod p uses it","retryable":true/);
    // one that was let in a moment ago
    const late = await target.put(request, Buffer.from('x'));
    assert.match(late.text, /pod p uses it/);
    assert.equal((await target.locate(other)).receiving, undefined);
  });

  it('are open as long as they take more', async () => {
    const target = await make();
    const request = session({ length: SIZE, resumable: true });
    assert.equal((await target.locate(request)).open, undefined);
    const first = target.receive(request);
    assert.equal((await target.put(request, readFileSync(raw).subarray(0, 2 * MIB))).status, 202);
    assert.equal((await target.locate(request)).open, request.session);
    assert.equal((await target.locate(session())).open, request.session);
    assert.equal((await first.done).outcome, 'interrupted');
    assert.equal((await target.locate(request)).open, undefined);
  });
});
