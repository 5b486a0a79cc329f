/** `npm test`: every test but the long ones, in four processes where the machine has two cores. Arguments are passed on to mocha. */
import { spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { runParts, type Part } from './support/parts.js';
import { SOURCE_LOADER } from './support/source-loader.js';

const mocha = createRequire(import.meta.url).resolve('mocha/bin/mocha.js');

/**
 * Tests that wait more than they compute, in two parts that take about the same time. All real nodes are in the first one, and in
 * each those that share servers follow each other.
 */
const ON_NODES = ['test/{documentation,local,nodes}/**/*.test.ts', 'test/live/[f-z]*.test.ts'];
const ON_SERVERS = [
  'test/{control,gateway,kubernetes,node}/**/*.test.ts',
  'test/deploy/**/*.test.ts',
  'test/live/[a-e]*.test.ts',
];
/** Tests of the engine compute, and their buffers have the heap collected often: in a process of their own it is a small one. */
const OF_IMAGES = ['test/{image,fuzz}/**/*.test.ts'];
/** Tests of what is left mostly compute, too. */
const OTHERS = 'test/**/*.test.ts';
const LONG = ['--ignore', 'test/long/**'];

// a pattern of titles may leave nothing to one of the parts
const failZero = process.argv.includes('--fail-zero');
const args = process.argv.slice(2).filter((arg) => arg !== '--fail-zero');
const all: Part = { args: [mocha, ...LONG, OTHERS, ...args] };
const parts: readonly Part[] = [
  { args: [mocha, ...LONG, ...ON_NODES, ...args] },
  { args: [mocha, ...LONG, ...ON_SERVERS, ...args] },
  { args: [mocha, ...LONG, ...OF_IMAGES, ...args] },
  {
    args: [
      mocha,
      ...LONG,
      ...[...ON_NODES, ...ON_SERVERS, ...OF_IMAGES].flatMap((one) => ['--ignore', one]),
      OTHERS,
      ...args,
    ],
  },
];

// what fails here fails again, and is said, in the test that needs it
const prebuild = fileURLToPath(new URL('support/prebuild.ts', import.meta.url));
const filtered = args.some((arg) => /^(-g|-f|--f?grep|--dry-run)/.test(arg));
const building = filtered
  ? undefined
  : spawn(process.execPath, [...SOURCE_LOADER, prebuild], { stdio: 'ignore', detached: true });

const { passed, failed, skipped, status } = await runParts(
  availableParallelism() < 2 ? [all] : parts,
  (text) => process.stdout.write(text),
);
if (building?.pid !== undefined && building.exitCode === null) process.kill(-building.pid);
console.log(`\n${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exitCode = failZero && passed + failed === 0 ? 1 : status;
