import { fileURLToPath } from 'node:url';
import { DefaultLogger, makeTelemetryFilterString, Runtime } from '@temporalio/worker';
import { openLibrary } from '../../activities/image/decode/native.js';
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

/**
 * Temporal's runtime keeps threads of its own, which would keep the process. And mocha ends it by `process.exit()`, in which Node may
 * wait for ever (https://github.com/nodejs/node/issues/54918): the C library's `_exit` waits for nobody.
 */
export async function mochaGlobalTeardown(): Promise<void> {
  await Runtime.instance().shutdown();
  const exit = openLibrary('libc')?.func('void _exit(int)') as ((code: number) => void) | undefined;
  process.once('exit', (code) => exit?.(code));
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
