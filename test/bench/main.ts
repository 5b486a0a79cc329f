/** `npm run bench`: the streaming engine against its peers, in turns, in one run. Ends with 1 when it is not fast or small enough. */
import { prepareClone, runClones, type CloneResult } from './clone.js';
import { growthPercent, prepareGrowth, runGrowth, type GrowthResult } from './growth.js';
import { prepareImages, sizeOf, type Images } from './images.js';
import { describeMachine } from './machine.js';
import type { Job } from './measure.js';
import { prepareMemory, runMemory, type MemoryResult } from './memory.js';
import { parseOptions, USAGE, type BenchOptions } from './options.js';
import {
  cloneTable,
  finalTable,
  growthTable,
  memoryTable,
  roundLine,
  rowReport,
  uploadTable,
} from './report.js';
import { verdictOf, writeResults, type BenchResults } from './results.js';
import { LINE_BYTES, ROWS, type Row } from './rows.js';
import { runRow, type RowResult } from './run-row.js';
import { startNginx, type Server } from './server.js';
import { openSlowLink } from './slow-link.js';
import type { SparseImage } from './sparse.js';
import { runUpload, type UploadResult } from './upload.js';
import { openWorkspace, type Workspace } from './workspace.js';
import { writeDocuments } from './documents.js';
import { runProgram } from '../support/command-line.js';

/** What all parts of a run share. */
interface Bench {
  readonly options: BenchOptions;
  readonly workspace: Workspace;
  readonly images: Images;
  readonly server: Server;
  readonly failures: { part: string; reason: string }[];
  link: string;
}

const say = (line: string): void => void process.stdout.write(`${line}\n`);

async function main(options: BenchOptions): Promise<number> {
  const started = Date.now();
  const workspace = await openWorkspace(options.keep);
  const images = await prepareImages(workspace, {
    quick: options.quick,
    images: ROWS.filter(({ name }) => options.parts.includes(name)).map(({ image }) => image),
    log: say,
  });
  if (options.parts.includes('clone')) await prepareClone({ images, quick: options.quick, log: say });
  if (options.parts.includes('memory')) await prepareMemory({ images, quick: options.quick, log: say });
  if (options.parts.includes('growth')) await prepareGrowth({ images, quick: options.quick, log: say });
  if (options.imagesOnly) return 0;
  const server = await startNginx({ root: images.directory, directory: `${workspace.directory}/nginx` });
  const bench: Bench = { options, workspace, images, server, failures: [], link: 'not measured' };
  const results = await runParts(bench);
  say('');
  if (results.rows.length > 0) say(finalTable(results.rows));
  for (const { part, reason } of results.failures) say(`FAIL ${part}: ${reason}`);
  if (options.json !== undefined) writeResults(options.json, results);
  if (options.writeDocs && results.failures.length > 0)
    say('docs/ is left as it is: not all parts were measured');
  else if (options.writeDocs) await writeDocuments(results);
  const verdict = verdictOf(results);
  say(`\n${verdict === 'fail' ? 'FAILED' : 'passed'} in ${Math.round((Date.now() - started) / 60_000)} min`);
  return verdict === 'fail' ? 1 : 0;
}

async function runParts(bench: Bench): Promise<BenchResults> {
  const { options, workspace, failures } = bench;
  const machine = await describeMachine(workspace.directory);
  say(machine);
  const rows: RowResult[] = [];
  for (const row of ROWS.filter(({ name }) => options.parts.includes(name))) {
    const result = await attempt(bench, row.name, () => runOne(bench, row));
    if (result !== undefined) rows.push(result);
  }
  const clones = options.parts.includes('clone')
    ? await attempt(bench, 'clone', () => clonePart(bench))
    : undefined;
  const upload = options.parts.includes('upload')
    ? await attempt(bench, 'upload', () => uploadPart(bench))
    : undefined;
  const memory = options.parts.includes('memory')
    ? await attempt(bench, 'memory', () => memoryPart(bench))
    : undefined;
  const growth = options.parts.includes('growth')
    ? await attempt(bench, 'growth', () => growthPart(bench))
    : undefined;
  return {
    machine,
    disk: sizeOf(options.quick),
    link: bench.link,
    pairs: options.pairs,
    quick: options.quick,
    rows,
    clones: clones ?? [],
    upload,
    memory: memory ?? [],
    growth: growth ?? [],
    percent: growthPercent(options.quick),
    failures,
  };
}

/** One part that cannot be measured fails the run, but the others are still worth knowing. */
async function attempt<Result>(
  { failures }: Bench,
  part: string,
  work: () => Promise<Result>,
): Promise<Result | undefined> {
  try {
    return await work();
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? `: ${error.cause.message}` : '';
    const reason = `${error instanceof Error ? error.message : String(error)}${cause}`;
    say(`  FAIL ${reason}`);
    failures.push({ part, reason });
    return undefined;
  }
}

async function runOne(bench: Bench, row: Row): Promise<RowResult> {
  const { options, images } = bench;
  const image = images.of(row.image);
  say(`\n${row.title}: ${(image.bytes / 1e6).toFixed(0)} MB; seconds of wall (user+sys) in each round`);
  const job: Job = {
    image,
    disk: images.of('raw'),
    server: row.slowLink === true ? await slowServer(bench) : bench.server,
    workspace: bench.workspace,
    env: { PLAIN: images.of('plain').file, SHA256: images.sha256 },
  };
  const result = await runRow(row, {
    job,
    pairs: options.pairs,
    quick: options.quick,
    referenceBytes: images.referenceBytes,
    onRound: (round, samples) => say(roundLine(round, samples)),
  });
  say(rowReport(result));
  if (row.slowLink === true) job.server.stop();
  return result;
}

async function slowServer(bench: Bench): Promise<Server> {
  const link = await openSlowLink(bench.workspace, bench.images.directory, LINE_BYTES);
  say(`link: ${link.kind}`);
  bench.link = link.kind;
  return link;
}

const sparseJob =
  ({ server, workspace, images }: Bench) =>
  ({ image, disk }: SparseImage, env: Readonly<Record<string, string>> = {}): Job => ({
    image,
    disk,
    server,
    workspace,
    env: { PLAIN: images.of('plain').file, SHA256: '', ...env },
  });

async function memoryPart(bench: Bench): Promise<readonly MemoryResult[]> {
  const { images, options } = bench;
  say('\nmemory');
  const results = await runMemory({
    images,
    quick: options.quick,
    log: say,
    jobFor: sparseJob(bench),
    onResult: ({ case: one }) => say(`  ${one.title}, ${one.slowDisk ? 'slow' : 'fast'} disk: measured`),
  });
  say(memoryTable(results));
  return results;
}

async function clonePart(bench: Bench): Promise<readonly CloneResult[]> {
  const { images, options } = bench;
  say('\nclone');
  const results = await runClones({
    images,
    quick: options.quick,
    pairs: options.pairs,
    log: say,
    jobFor: sparseJob(bench),
  });
  for (const result of results) say(cloneTable(result));
  return results;
}

async function uploadPart(bench: Bench): Promise<UploadResult> {
  const { images, options, server, workspace } = bench;
  say('\nupload');
  const job: Job = { image: images.of('plain'), disk: images.of('raw'), server, workspace };
  const result = await runUpload({ images, quick: options.quick, pairs: options.pairs, job });
  say(uploadTable(result));
  return result;
}

async function growthPart(bench: Bench): Promise<readonly GrowthResult[]> {
  const { images, options } = bench;
  say('\ngrowth');
  const results = await runGrowth({
    images,
    quick: options.quick,
    log: say,
    jobFor: sparseJob(bench),
    onResult: ({ gib }) => say(`  ${gib} GiB: measured`),
  });
  say(growthTable(results));
  return results;
}

await runProgram({ name: 'bench', usage: USAGE }, () => main(parseOptions(process.argv.slice(2))));
// sockets of a relay or server that is still there must not keep the process
process.exit();
