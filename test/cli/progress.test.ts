import assert from 'node:assert/strict';
import type { Client } from '@temporalio/client';
import { createLines, follow } from '../../cli/follow.js';
import { progressLine } from '../../cli/render/progress.js';
import { HALF_DONE, statusOf } from './status.js';

describe('progress lines', () => {
  it('give percent, bytes, rate and time left', () => {
    assert.equal(
      progressLine(statusOf({ progress: HALF_DONE })),
      'ImportInProgress  50.0%  read 512 MiB of 1 GiB  wrote 768 MiB  64 MiB/s  ETA 8s',
    );
  });

  it('give no percent and no time left where no denominator exists', () => {
    const { fraction: _, bytesReadTotal: __, ...progress } = HALF_DONE;
    assert.equal(
      progressLine(statusOf({ progress })),
      'ImportInProgress  read 512 MiB  wrote 768 MiB  64 MiB/s',
    );
  });

  it('say what is being done when no bytes move', () => {
    assert.equal(
      progressLine(statusOf({ phase: '', step: 'inspecting the source' })),
      'Pending  inspecting the source',
    );
  });

  it('say that the disk is synced, without a rate that means nothing', () => {
    const progress = { ...HALF_DONE, phase: 'syncing', fraction: 0.9999 } as const;
    assert.equal(
      progressLine(statusOf({ progress })),
      'ImportInProgress  99.9%  read 512 MiB of 1 GiB  wrote 768 MiB  syncing',
    );
  });

  it('say what is waited for', () => {
    const waiting = { for: 'Secret team-a/basic does not exist', since: '2026-11-23T10:00:00Z' };
    assert.equal(
      progressLine(statusOf({ phase: 'Pending', waiting })),
      'Pending  waiting: Secret team-a/basic does not exist',
    );
  });

  it('say why an attempt failed and which one runs', () => {
    const retrying = [{ activity: 'transferImage', attempt: 3, failure: 'connection reset' }];
    assert.match(
      progressLine(statusOf({ retrying })),
      /attempt 3 of transferImage, the last one failed: connection reset$/,
    );
  });
});

describe('lines of a pipe', () => {
  it('come at once for a change of step, every two seconds for figures, and never twice', () => {
    let now = 0;
    const lines: string[] = [];
    const view = createLines(
      (line) => lines.push(line),
      () => now,
    );
    const at = (time: number, bytesRead: number, phase: 'ImportScheduled' | 'ImportInProgress') => {
      now = time;
      view.show(statusOf({ phase, progress: { ...HALF_DONE, bytesRead } }));
    };
    at(0, 1024, 'ImportScheduled');
    at(100, 1024, 'ImportScheduled');
    at(200, 2048, 'ImportInProgress');
    at(1_200, 3072, 'ImportInProgress');
    at(2_300, 4096, 'ImportInProgress');
    assert.deepEqual(
      lines.map((line) => /^(\w+).*read (\S+ \w+)/.exec(line)?.slice(1)),
      [
        ['ImportScheduled', '1 KiB'],
        ['ImportInProgress', '2 KiB'],
        ['ImportInProgress', '4 KiB'],
      ],
    );
  });
});

describe('follow', () => {
  const view = { show: () => undefined, end: () => undefined };
  const client = {
    withAbortSignal: (_: AbortSignal, call: () => Promise<unknown>) => call(),
  } as unknown as Client;
  const status = async () => statusOf();

  it('hands over the result although the status cannot be read', async () => {
    const result = () => new Promise<string>((done) => setTimeout(done, 20, 'the disk'));
    const unread = () => Promise.reject(new Error('no worker'));
    assert.equal(await follow(client, { result, status: unread, name: 'it' }, view), 'the disk');
  });

  it('passes the failure on and ends the view', async () => {
    let ended = false;
    const ending = { ...view, end: () => void (ended = true) };
    const result = () => Promise.reject(new Error('404'));
    await assert.rejects(follow(client, { result, status, name: 'it' }, ending), /404/);
    assert.ok(ended);
  });

  it('stops waiting at Ctrl-C, and says that the work goes on', async () => {
    const result = () => new Promise<string>(() => undefined);
    const before = process.listenerCount('SIGINT');
    const following = follow(client, { result, status, name: 'import of team-a/vm1' }, view);
    process.emit('SIGINT');
    await assert.rejects(following, { exitCode: 130, message: /^import of team-a\/vm1 goes on/ });
    assert.equal(process.listenerCount('SIGINT'), before);
  });
});
