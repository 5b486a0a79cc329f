import type { Context } from '@temporalio/activity';
import type { ActivityInterceptorsFactory } from '@temporalio/worker';

/** Most steps end before their first beat, and cost the server nothing. In ms. */
const BEAT_MS = 3_000;

/** For workers: longest that the SDK may hold a beat back, in ms; of a timeout of 10 s it would hold back 8. */
export const BEAT_THROTTLE_MS = 2_000;

/**
 * Beats for every activity that has a heartbeat timeout, as long as it works: one whose worker died, or that never reached a worker, is
 * tried again soon, and a cancel reaches it. A beat repeats what the work, or the attempt before it, said last: the next attempt goes
 * on from there. Those that `report` beat for themselves, with what they have done.
 */
export function beatWhileWorking(report: readonly string[] = []): ActivityInterceptorsFactory {
  return (context) => ({
    inbound: {
      async execute(input, next) {
        const { activityType, heartbeatTimeoutMs } = context.info;
        if (!heartbeatTimeoutMs || report.includes(activityType)) return await next(input);
        const { heartbeat } = context;
        let last: unknown = context.info.heartbeatDetails;
        const say: Context['heartbeat'] = (details) => heartbeat((last = details));
        // the SDK keeps what was said to itself
        Object.assign(context, { heartbeat: say });
        const timer = setInterval(() => heartbeat(last), BEAT_MS);
        try {
          return await next(input);
        } finally {
          clearInterval(timer);
        }
      },
    },
  });
}
