import { fileURLToPath } from 'node:url';
import { DefaultLogger, makeTelemetryFilterString, Runtime } from '@temporalio/worker';
import { refuseForeign } from '../../local/index.js';
import { coverageHook } from '../documentation/checker/hook.js';
import { endStacks } from './stack.js';

/** Before anything else: nobody's cluster is a test bed, and Temporal's own logs would drown mocha's. */
export function mochaGlobalSetup(): void {
  refuseForeign('npm test');
  Runtime.install({
    logger: new DefaultLogger('ERROR'),
    // A test that sends itself a signal must not stop the workers of all tests that follow.
    shutdownSignals: [],
    telemetryOptions: { logging: { forward: {}, filter: makeTelemetryFilterString({ core: 'ERROR' }) } },
  });
}

/** Temporal's runtime keeps threads of its own, which would keep the process. */
export async function mochaGlobalTeardown(): Promise<void> {
  await Runtime.instance().shutdown();
}

/** Hooks around all suites; what the run has proved is counted when nothing can fail any more. */
export const mochaHooks = {
  afterAll: [
    async function endStacksAfterAll(this: Mocha.Context): Promise<void> {
      this.timeout(120_000);
      await endStacks();
    },
    coverageHook(fileURLToPath(new URL('../..', import.meta.url))),
  ],
};
