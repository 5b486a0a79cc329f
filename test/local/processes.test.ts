import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  endProcess,
  isAlive,
  sessionOf,
  signalProcess,
  startDetached,
  type ProcessRecord,
} from '../../local/processes.js';

describe('processes of the local stack', () => {
  let directory: string;
  let started: ProcessRecord[];

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'dvflow-processes-'));
    started = [];
  });
  afterEach(async () => {
    for (const record of started) await endProcess(record, 0);
    rmSync(directory, { recursive: true });
  });

  const shell = async (script: string): Promise<ProcessRecord> => {
    const log = join(directory, 'log');
    const record = await startDetached({ file: 'sh', args: ['-c', script], env: process.env, log });
    started.push(record);
    return record;
  };

  it('append to their log', async () => {
    const record = await shell('echo one; echo two >&2');
    while (isAlive(record)) await sleep(5);
    assert.equal(readFileSync(record.log, 'utf8'), 'one\ntwo\n');
  });

  it('end gracefully first', async () => {
    const record = await shell("trap 'echo bye; exit' TERM; echo ready; while :; do sleep 0.05; done");
    while (!readFileSync(record.log, 'utf8').includes('ready')) await sleep(5);
    await endProcess(record, 10_000);
    assert.match(readFileSync(record.log, 'utf8'), /bye/);
    assert.equal(isAlive(record), false);
  });

  it('are killed with all their children when they do not end', async () => {
    const record = await shell("trap '' TERM; sleep 600 & echo ready; while :; do sleep 0.05; done");
    while (!readFileSync(record.log, 'utf8').includes('ready')) await sleep(5);
    assert.ok(sessionOf(record).length >= 2);
    await endProcess(record, 100);
    assert.deepEqual(sessionOf(record), []);
  });

  it('leave no child behind that outlived a killed parent', async () => {
    const record = await shell('sleep 600 & echo ready; wait');
    while (!readFileSync(record.log, 'utf8').includes('ready')) await sleep(5);
    signalProcess(record, 'SIGKILL');
    while (isAlive(record)) await sleep(5);
    assert.equal(sessionOf(record).length, 1);
    await endProcess(record, 0);
    assert.deepEqual(sessionOf(record), []);
  });

  it('are never mistaken for another process under the same pid, nor for one of an earlier boot', async () => {
    const record = await shell('sleep 600');
    for (const other of [
      { ...record, startTime: '1' },
      { ...record, boot: 'earlier' },
    ]) {
      assert.equal(isAlive(other), false);
      assert.equal(signalProcess(other, 'SIGKILL'), false);
      await endProcess(other, 0);
    }
    assert.equal(isAlive(record), true);
  });

  it('say that a program is missing', async () => {
    const log = join(directory, 'log');
    await assert.rejects(startDetached({ file: '/nowhere/program', args: [], env: {}, log }), {
      code: 'ENOENT',
    });
  });
});
