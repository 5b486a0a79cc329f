import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname } from 'node:path';
import type { FuzzJob } from './job.js';
import { OUTSIDE_NAME } from './mutate-tar.js';

const CANARIES = ['canary-1', 'zz-canary'];
const SONG = 'nobody writes here\n'.repeat(400);

/** Makes the places of a job anew, with files around the target that must stay as they are. */
export function prepareRoom(job: FuzzJob): void {
  const around = dirname(job.target);
  for (const place of [around, job.state, job.scratch ?? job.state]) {
    rmSync(place, { recursive: true, force: true });
    mkdirSync(place, { recursive: true });
  }
  for (const name of CANARIES) writeFileSync(`${around}/${name}`, SONG);
  if (job.contentType !== 'archive') return;
  // what lies in a volume leads out of it, and goes before anything is unpacked
  mkdirSync(job.target);
  symlinkSync('..', `${job.target}/link`);
}

/** What is not as it must be around the target of a job; absent: all is well. */
export function trespassIn(job: FuzzJob): string | undefined {
  const around = dirname(job.target);
  const known = new Set([...CANARIES, basename(job.target)]);
  const found = readdirSync(around);
  const strange = found.filter((name) => !known.has(name));
  if (strange.length > 0) return `made beside the target: ${strange.join(', ')}`;
  const hurt = CANARIES.find(
    (name) => !found.includes(name) || readFileSync(`${around}/${name}`, 'utf8') !== SONG,
  );
  if (hurt !== undefined) return `${hurt} beside the target was changed`;
  if (CANARIES.some((name) => statSync(`${around}/${name}`).nlink > 1))
    return 'a link to a file beside the target';
  if (existsSync(OUTSIDE_NAME)) return `${OUTSIDE_NAME} was made`;
  if (job.scratch !== undefined && readdirSync(job.scratch).length > 0)
    return 'scratch space was not left empty';
  if (job.contentType === 'archive' || !existsSync(job.target)) return undefined;
  const { size } = statSync(job.target);
  const most = job.usableBytes ?? Infinity;
  return size > most ? `the target has ${size} bytes, it was given ${most}` : undefined;
}
