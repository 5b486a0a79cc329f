/** A sparse disk copied on one node, also where the file system shares blocks, and from another one: a clone, in the process that moves its bytes, beside what people copy disks with. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { dataPortClientOptions } from '../../activities/data-port/tls.js';
import { createAsyncDisposables } from '../../activities/disposables.js';
import { servedUrl } from '../../activities/image/clone/volume-protocol.js';
import { sourceVolume, tryFileSystem } from '../image/support/clone.js';
import { serveVolume } from '../image/support/served.js';
import { startLoopbackPort } from '../workers/data-port-client.js';
import type { Images } from './images.js';
import { CHILD, measure, verify, wallsOf, type Job, type Sample } from './measure.js';
import type { Method } from './methods.js';
import { prepareSparse, type SparseDisk, type SparseImage } from './sparse.js';
import { judge, ratios, spreadOf, type Spread, type Verdict } from './statistics.js';
import { takeTurns } from './turns.js';

/** Ways to copy a disk. */
export type CloneMethodName = 'clone' | 'network' | 'cp' | 'tar' | 'shared';

const EVERYWHERE = ['clone', 'network', 'cp', 'tar'] as const satisfies readonly CloneMethodName[];
const WHERE_SHARED = ['clone', 'cp', 'shared'] as const satisfies readonly CloneMethodName[];

/** What a clone must reach of `cp`, as a factor. */
export const CLONE_MUST = 1;

/** The target once more with O_DIRECT, as a node worker opens it: no shell can. */
const DIRECT =
  'use Fcntl; $^F = 9; open(my $target, "+<&=", 6); fcntl($target, F_SETFL, O_RDWR | O_DIRECT) or die $!; exec @ARGV or die $!';

/** The child that moves the bytes, told what this variable holds. It ends with its input: a FIFO that is held open has none. */
const child = (job: string): string =>
  [
    'mkfifo "$SCRATCH_DIRECTORY/in" && mkdir "$SCRATCH_DIRECTORY/state"',
    `exec 8<>"$SCRATCH_DIRECTORY/in"; echo "$${job}" >&8`,
    `perl -e '${DIRECT}' "$NODE" "$CHILD" <&8 3<>"$TARGET" 4<"$SCRATCH_DIRECTORY" 5<"$SCRATCH_DIRECTORY/state" 6<>"$TARGET" 9<"$IMAGE" > "$SCRATCH_DIRECTORY/out"`,
    'grep -q "^{\\"result\\"" "$SCRATCH_DIRECTORY/out"',
  ].join('\n');

/**
 * The lines, as in `methods.ts`; and `JOB` and `NETWORK_JOB`, what the child is told. CDI's way is without its compression and
 * encryption, which would make it slower.
 */
export const CLONES: Readonly<Record<CloneMethodName, Method>> = {
  clone: { title: 'dvflow, clone on one node', script: child('JOB') },
  network: { title: 'dvflow, clone from another node, by mTLS on loopback', script: child('NETWORK_JOB') },
  cp: {
    title: 'cp --sparse=always',
    script: 'cp --sparse=always --reflink=never "$IMAGE" "$TARGET" && sync "$TARGET"',
  },
  tar: {
    title: "CDI's way: tar -cS through a pipe into tar -x",
    script:
      'tar -C "${IMAGE%/*}" -cS "${IMAGE##*/}" | tar -C "$SCRATCH_DIRECTORY" -x && ' +
      'mv "$SCRATCH_DIRECTORY/${IMAGE##*/}" "$TARGET" && sync "$TARGET"',
  },
  shared: {
    title: 'cp --reflink=always',
    script: 'cp --reflink=always "$IMAGE" "$TARGET" && sync "$TARGET"',
  },
};

/** Counted runs of each method. */
export interface CloneResult {
  readonly disk: SparseDisk;
  readonly fileSystem: string;
  readonly samples: ReadonlyMap<CloneMethodName, readonly Sample[]>;
  /** Time of `cp` over ours. */
  readonly ratio: Spread;
  readonly verdict: Verdict;
}

/** How the disk is copied. */
export interface CloneRun {
  readonly images: Images;
  readonly quick: boolean;
  readonly pairs: number;
  readonly log: (line: string) => void;
  readonly jobFor: (sparse: SparseImage, env: Readonly<Record<string, string>>) => Job;
}

const diskOf = (quick: boolean): SparseDisk =>
  quick ? { gib: 2, dataMib: 600, kind: 'raw' } : { gib: 4, dataMib: 1024, kind: 'raw' };

/** Makes the disk. */
export async function prepareClone({
  images,
  quick,
  log,
}: Pick<CloneRun, 'images' | 'quick' | 'log'>): Promise<void> {
  await prepareSparse(images, diskOf(quick), log);
}

/** Copies the disk by each method in turns; the first round warms up, and its results are compared. On a file system that shares blocks, too, where one can be mounted. */
export async function runClones(run: CloneRun): Promise<readonly CloneResult[]> {
  const { images, quick, log, jobFor } = run;
  const disk = diskOf(quick);
  const sparse = await prepareSparse(images, disk, log);
  await using source = await serveSource(sparse.image.file);
  const NETWORK_JOB = jobOf(disk, { remote: source.remote });
  const job = jobFor(sparse, { CHILD, JOB: jobOf(disk), NETWORK_JOB });
  const plain = await compare(run, job, EVERYWHERE);
  const { workspace } = job;
  using xfs = tryFileSystem(workspace.directory, 'xfs', 3 * 1024 * disk.gib);
  if (!xfs) return [plain];
  workspace.atEnd(() => spawnSync('umount', ['--lazy', xfs.path], { stdio: 'ignore' }));
  const file = join(xfs.path, 'source.img');
  execFileSync('cp', ['--sparse=always', sparse.image.file, file]);
  const there = {
    ...job,
    image: { ...job.image, file },
    workspace: { ...workspace, directory: xfs.path },
    env: { ...job.env, JOB: jobOf(disk, { reflink: true }) },
  };
  return [plain, await compare(run, there, WHERE_SHARED)];
}

async function compare(
  { quick, pairs }: CloneRun,
  job: Job,
  names: readonly CloneMethodName[],
): Promise<CloneResult> {
  const { directory } = job.workspace;
  const samples = await takeTurns({
    names,
    rounds: pairs,
    measure: (name) => measure(CLONES[name], job),
    verify: (name) => verify(CLONES[name], job),
  });
  const fileSystem = execFileSync('stat', ['-f', '-c', '%T', directory], { encoding: 'utf8' }).trim();
  const ratio = spreadOf(ratios(wallsOf(samples.get('clone')), wallsOf(samples.get('cp'))));
  const verdict = judge(ratio, { must: CLONE_MUST }, quick);
  return { disk: diskOf(quick), fileSystem, samples, ratio, verdict };
}

/** The node that has the disk: its data port is in this process, and what it costs is in no figure but the time. */
async function serveSource(file: string): Promise<AsyncDisposable & { readonly remote: object }> {
  await using stack = createAsyncDisposables();
  const { port, tls } = stack.use(await startLoopbackPort(5_000));
  const path = mkdtempSync(`${file}.volume-`);
  stack.defer(() => rmSync(path, { recursive: true }));
  // a file of two names is refused
  execFileSync('cp', ['--sparse=always', file, join(path, 'disk.img')]);
  const { url, stop } = await serveVolume(port, sourceVolume(path));
  stack.defer(stop);
  const { ca, cert, key } = dataPortClientOptions(tls('dvflow-node'));
  const ending = stack.move();
  return {
    remote: { url: servedUrl(url, 1), tls: { ca, cert, key } },
    [Symbol.asyncDispose]: () => ending[Symbol.asyncDispose](),
  };
}

/** As a node worker tells its child: the disk is open as descriptor 9, or on another node. */
function jobOf({ gib }: SparseDisk, elsewhere: object = {}): string {
  return JSON.stringify({
    request: { kind: 'volume', name: 'benchmark', generation: 1, tree: false, ...elsewhere },
    policy: { allowed: [], denied: [] },
    contentType: 'kubevirt',
    claimName: 'benchmark',
    usableBytes: gib * 2 ** 30,
    preallocation: false,
    fence: 1,
    attempt: 1,
    fds: { file: 3, direct: 6, directory: 4, record: 5, volume: 9 },
  });
}
