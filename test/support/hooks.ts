import { DefaultLogger, makeTelemetryFilterString, Runtime } from '@temporalio/worker';
import { refuseForeign } from '../../local/index.js';
import { endStack } from './stack.js';

/** Before anything else: nobody's cluster is a test bed, and Temporal's own logs would drown mocha's. */
export function mochaGlobalSetup(): void {
  refuseForeign('npm test');
  Runtime.install({
    logger: new DefaultLogger('ERROR'),
    telemetryOptions: { logging: { forward: {}, filter: makeTelemetryFilterString({ core: 'ERROR' }) } },
  });
}

/** Hooks around all suites. */
export const mochaHooks = {
  async afterAll(this: Mocha.Context): Promise<void> {
    this.timeout(120_000);
    await endStack();
  },
};
