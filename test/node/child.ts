/** Runs node activities in a process of its own, so that a test can kill it or give it another uid. */
import { createNodeActivities } from '../../activities/node/index.js';
import type { ReservedDirectory } from '../../activities/types.js';
import type { ChildTask, ReserveInput } from './support.js';

const { call, inputs, ...context } = JSON.parse(process.argv[2] ?? '') as ChildTask;
const activities = createNodeActivities({ node: 'node-1', ...context });
process.stdout.write('ready\n');
const results = await Promise.all(
  inputs.map((input) =>
    call === 'reserve'
      ? activities.reserveDirectory(input as ReserveInput)
      : activities.removeDirectory({ directory: input as ReservedDirectory }),
  ),
);
process.stdout.write(JSON.stringify(results));
