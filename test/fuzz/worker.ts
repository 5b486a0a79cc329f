/**
 * The process that converts, one job after another, told by messages: it may crash, hang or grow without the fuzzer, which
 * watches it. Arguments: the module that converts (`engine.ts`), and a word for that module.
 */
import type { Convert, FuzzJob } from './job.js';

const { convert } = (await import(process.argv[2] ?? './engine.js')) as { convert: Convert };

process.on('message', (job: FuzzJob) => {
  convert(job).then(
    (answer) => process.send?.(answer),
    (error: unknown) => {
      throw error;
    },
  );
});
process.on('disconnect', () => process.exit(0));
process.send?.('ready');
