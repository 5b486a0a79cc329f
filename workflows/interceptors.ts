/** Around every workflow, whatever its type: bundled beside `index.ts` by `workers/bundle.ts`. */
import { ContinueAsNew, type WorkflowInterceptorsFactory } from '@temporalio/workflow';
import { failureOf } from './ending.js';
import { countFailure } from './metrics.js';

/** Counts how runs fail. */
export const interceptors: WorkflowInterceptorsFactory = () => ({
  inbound: [
    {
      async execute(input, next) {
        try {
          return await next(input);
        } catch (error) {
          if (!(error instanceof ContinueAsNew)) countFailure(error, (failed) => failureOf(failed).type);
          throw error;
        }
      },
    },
  ],
});
