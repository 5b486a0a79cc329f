import { mock } from 'node:test';
import type { Client } from '@temporalio/client';
import { startCapacity } from '../../workers/control/capacity.js';
import { eventually } from '../live/world.js';

describe('the publication of room', () => {
  it('goes on every minute although the clock is set back', async () => {
    const { now } = Date;
    const monotonic = performance.now.bind(performance);
    let passed = 0;
    let runs = 0;
    const client = { workflow: { start: async () => void (runs += 1) } } as unknown as Client;
    const logger = { warn: () => undefined } as never;
    mock.timers.enable({ apis: ['setInterval'] });
    const capacity = startCapacity({ client, logger, isRead: () => true });
    try {
      performance.now = () => monotonic() + passed;
      mock.timers.tick(1_000);
      await eventually('the first run', 5_000, async () => (runs === 1 ? true : undefined));
      mock.timers.tick(1_000);
      Date.now = () => now() - 3_600_000;
      passed = 61_000;
      mock.timers.tick(1_000);
      await eventually('the second run', 5_000, async () => (runs === 2 ? true : undefined));
    } finally {
      Date.now = now;
      performance.now = monotonic;
      await capacity.stop();
      mock.timers.reset();
    }
  });
});
