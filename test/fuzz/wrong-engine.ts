/** Engines with one mistake each, which the fuzzer must find; for its own tests. */
import {
  linkSync,
  readdirSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
  openSync,
  closeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { convert as convertRightly } from './engine.js';
import type { Convert, FuzzAnswer, FuzzJob } from './job.js';

const done = (answer: FuzzAnswer): boolean => answer.end.kind === 'done';

/** What is wrong, by name: what becomes of a right answer. */
const MISTAKES: Readonly<
  Record<string, (job: FuzzJob, answer: FuzzAnswer) => FuzzAnswer | Promise<FuzzAnswer>>
> = {
  none: (_, answer) => answer,
  'other data': (job, answer) => {
    if (done(answer) && job.contentType === 'kubevirt') flipFirst(job.target);
    return answer;
  },
  'other tree': (job, answer) => {
    if (done(answer) && job.contentType === 'archive') writeFileSync(`${job.target}/stray`, '');
    return answer;
  },
  'other size': (job, answer) => {
    if (done(answer) && job.contentType === 'kubevirt') truncateSync(job.target, 512 * 1234567);
    return answer;
  },
  'valid refused': (_, { outside }) => ({
    end: { kind: 'refused', type: 'ImageInvalid', message: 'no' },
    outside,
  }),
  untyped: (_, { outside }) => ({ end: { kind: 'untyped', message: 'TypeError' }, outside }),
  outside: (_, answer) => ({ ...answer, outside: ['1000 to 2000 of 1500'] }),
  beside: (job, answer) => {
    writeFileSync(`${dirname(job.target)}/stray`, '');
    return answer;
  },
  canary: (job, answer) => {
    const around = dirname(job.target);
    const canary = `${around}/${readdirSync(around).find((name) => name.startsWith('canary'))}`;
    writeFileSync(canary, 'changed');
    return answer;
  },
  link: (job, answer) => {
    rmSync(job.target, { recursive: true, force: true });
    linkSync(`${dirname(job.target)}/canary-1`, job.target);
    return answer;
  },
  crash: () => process.exit(3),
  thrown: () => Promise.reject(new Error('a mistake')),
  hang: () => new Promise(() => undefined),
  memory: (_, answer) => {
    hoard.push(Buffer.alloc(700 * 1024 * 1024, 1));
    return answer;
  },
};
const hoard: Buffer[] = [];

function flipFirst(path: string): void {
  const fd = openSync(path, 'r+');
  writeSync(fd, Buffer.from('flipped'), 0, 7, 0);
  closeSync(fd);
}

/** The engine's answer, made wrong by the mistake that the process was told to make. */
export const convert: Convert = async (job) => {
  const mistake = MISTAKES[process.argv[3] ?? ''] ?? MISTAKES['none']!;
  return await mistake(job, await convertRightly(job));
};
