import assert from 'node:assert/strict';
import { mock } from 'node:test';
import { Context } from '@temporalio/activity';
import { MockActivityEnvironment } from '@temporalio/testing';
import { beatWhileWorking } from '../../workers/beats.js';

describe('beats of a worker', () => {
  beforeEach(() => mock.timers.enable({ apis: ['setInterval'] }));
  afterEach(() => mock.timers.reset());

  /** Beats while an activity works for 10 s, and in the 10 s after it. */
  async function beatsOf(info: { activityType: string; heartbeatTimeoutMs?: number }): Promise<number> {
    let beats = 0;
    const context = { info, heartbeat: () => void (beats += 1) } as unknown as Context;
    const { execute } = beatWhileWorking(['inspectSource'])(context).inbound ?? {};
    const work = async (): Promise<string> => {
      mock.timers.tick(10_000);
      return await Promise.resolve('done');
    };
    assert.equal(await execute?.({ args: [], headers: {} }, work), 'done');
    mock.timers.tick(10_000);
    return beats;
  }

  it('go on as long as an activity works, and no longer', async () => {
    assert.equal(await beatsOf({ activityType: 'publishVolume', heartbeatTimeoutMs: 10_000 }), 3);
  });

  it('leave out one that says itself what it has done, and one of which no beat is asked', async () => {
    assert.equal(await beatsOf({ activityType: 'inspectSource', heartbeatTimeoutMs: 10_000 }), 0);
    assert.equal(await beatsOf({ activityType: 'locateVolume' }), 0);
  });

  it('repeat what was said last, by the attempt before too, so that the next one goes on there', async () => {
    const environment = new MockActivityEnvironment(
      { activityType: 'prepareVolume', heartbeatTimeoutMs: 10_000, heartbeatDetails: 3 },
      { interceptors: [beatWhileWorking()] },
    );
    const beats: unknown[] = [];
    environment.on('heartbeat', (details: unknown) => beats.push(details));
    await environment.run(async () => {
      mock.timers.tick(3_000);
      Context.current().heartbeat(4);
      mock.timers.tick(6_000);
      await Promise.resolve();
    });
    assert.deepEqual(beats, [3, 4, 4, 4]);
  });
});
