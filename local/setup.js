/**
 * Makes a checkout ready to use: `node local/setup.js [demo|test|bench|link]`. Plain JavaScript without a dependency, since it runs
 * on the system's own Node (20 or later) before anything is installed. Each step looks first and does nothing when all is well.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  accessSync,
  chmodSync,
  constants,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = join(fileURLToPath(import.meta.url), '..', '..');
const LEAST_NODE = 20;

/** Debian packages by purpose: each line says which programs, or files, it is there for; one of them is enough. */
const PACKAGES = {
  demo: [
    ['qemu-utils', ['qemu-img']],
    ['xz-utils', ['xz']],
    ['e2fsprogs', ['mke2fs']],
    ['util-linux', ['flock']],
    ['curl', ['curl']],
    ['libdeflate0', ['x86_64', 'aarch64'].map((cpu) => `/usr/lib/${cpu}-linux-gnu/libdeflate.so.0`)],
  ],
  test: [
    ['gzip', ['gzip']],
    ['zstd', ['zstd']],
    ['zip', ['zip']],
    ['unzip', ['unzip']],
    ['openssl', ['openssl']],
    ['skopeo', ['skopeo']],
    ['prometheus', ['promtool']],
    ['mount', ['losetup']],
    ['xfsprogs', ['mkfs.xfs']],
    ['btrfs-progs', ['mkfs.btrfs']],
    ['chromium', ['chromium', 'chromium-browser', 'google-chrome']],
  ],
  /** What real nodes consist of; without root there are none. */
  nodes: [
    ['containerd', ['containerd']],
    ['runc', ['runc']],
    ['containernetworking-plugins', ['/usr/lib/cni/bridge', '/opt/cni/bin/bridge']],
    ['iproute2', ['ip']],
    ['busybox-static', ['busybox']],
  ],
  bench: [
    ['gzip', ['gzip']],
    ['fdisk', ['sfdisk']],
    ['nginx-light', ['nginx']],
    ['nbdkit', ['nbdkit']],
    ['libnbd-bin', ['nbdcopy']],
    ['isal', ['igzip']],
    ['iproute2', ['ip']],
    ['gcc', ['cc']],
    ['libc6-dev', ['/usr/include/stdio.h']],
    ['zlib1g-dev', ['/usr/include/zlib.h']],
    ['libzstd-dev', ['/usr/include/zstd.h']],
    ['libdeflate-dev', ['/usr/include/libdeflate.h']],
  ],
};

/** Purposes that each purpose includes. */
const INCLUDED = {
  demo: ['demo'],
  test: ['demo', 'test', ...(process.getuid() === 0 ? ['nodes'] : [])],
  bench: ['demo', 'bench'],
};

/** What `npm run build` reads. */
const SOURCES = ['workflows', 'activities', 'workers', 'client', 'cli', 'local'];
const SOURCE_FILES = ['package-lock.json', 'tsconfig.json', 'tsconfig.build.json'];
const STAMP = join(ROOT, 'lib', '.built');

class SetupError extends Error {}

function say(line) {
  process.stdout.write(`${line}\n`);
}

/** Programs of the system's administrator are looked for too: an ordinary user's PATH often leaves them out. */
function isInstalled(program) {
  if (program.startsWith('/')) return existsSync(program);
  const directories = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin'];
  return directories.some((directory) => isExecutable(join(directory, program)));
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function run(file, args, options = {}) {
  const { status, error } = spawnSync(file, args, {
    cwd: ROOT,
    stdio: ['ignore', 'inherit', 'inherit'],
    ...options,
  });
  if (error) throw new SetupError(`${file} cannot be run: ${error.message}`);
  if (status !== 0) throw new SetupError(`${file} ${args.join(' ')} failed`);
}

function checkSystem() {
  if (process.platform !== 'linux') throw new SetupError(`dvflow runs on Linux, this is ${process.platform}`);
  const major = Number(process.versions.node.split('.')[0]);
  if (major < LEAST_NODE)
    throw new SetupError(`Node ${LEAST_NODE} or later is needed, this is ${process.versions.node}`);
}

function installPackages(purpose) {
  const wanted = INCLUDED[purpose].flatMap((included) => PACKAGES[included]);
  const missing = wanted.filter(([, programs]) => !programs.some(isInstalled)).map(([name]) => name);
  if (missing.length === 0) return;
  if (process.getuid() !== 0 || !isInstalled('apt-get')) {
    throw new SetupError(`these packages are missing: sudo apt-get install -y ${missing.join(' ')}`);
  }
  say(`installing ${missing.join(', ')}`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  run('apt-get', ['update', '-qq'], { env });
  withoutServices(() =>
    run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...missing], { env }),
  );
  const services = missing.filter((name) => ['prometheus', 'containerd'].includes(name));
  // The next start of the machine would start what the policy has held back; without systemd there is nothing to turn off.
  for (const service of services)
    spawnSync('systemctl', ['disable', '--quiet', service], { stdio: 'ignore' });
}

/** Debian starts the services of what it installs, unless this program says no (invoke-rc.d(8)); tests start their own. */
function withoutServices(install) {
  const policy = '/usr/sbin/policy-rc.d';
  if (existsSync(policy)) return install();
  writeFileSync(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    return install();
  } finally {
    rmSync(policy, { force: true });
  }
}

/** Whether node_modules holds just what package-lock.json names, judged by the copy that npm keeps of what it installed. */
function modulesMatch() {
  const wanted = readLock(join(ROOT, 'package-lock.json'));
  const found = readLock(join(ROOT, 'node_modules', '.package-lock.json'));
  if (wanted === undefined || found === undefined) return false;
  const complete = Object.entries(wanted).every(
    ([path, entry]) =>
      path === '' || entry.optional || entry.devOptional || found[path]?.version === entry.version,
  );
  return complete && Object.entries(found).every(([path, entry]) => wanted[path]?.version === entry.version);
}

function readLock(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8')).packages;
  } catch {
    return undefined;
  }
}

function installModules() {
  if (modulesMatch()) return;
  say('installing npm packages (npm ci)');
  run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error']);
}

/** Fingerprint of everything that the build reads; times of files say nothing after a checkout. */
function sourceHash() {
  const hash = createHash('sha256');
  const files = SOURCES.flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => join(folder, name)),
  );
  for (const file of [...files.sort(), ...SOURCE_FILES])
    hash.update(`${file}\0`).update(readFileSync(join(ROOT, file)));
  return hash.digest('hex');
}

function build() {
  const built = existsSync(STAMP) ? readFileSync(STAMP, 'utf8') : '';
  if (built === sourceHash()) {
    link();
    return;
  }
  say('building lib/');
  // A compiler that keeps a list of what it has written does not write again what is gone.
  if (!existsSync(STAMP)) rmSync(join(ROOT, 'lib', '.tsbuildinfo'), { force: true });
  rmSync(STAMP, { force: true });
  run('npm', ['run', '--silent', 'build']);
}

/** npm links the programs of dependencies only; this makes `npx dvflow` work in the checkout. The last step of a build. */
function link() {
  const program = join(ROOT, 'lib', 'cli', 'bundled', 'main.js');
  if (!existsSync(program)) throw new SetupError('lib/cli/bundled/main.js is missing: run npm run build');
  chmodSync(program, 0o755);
  const bin = join(ROOT, 'node_modules', '.bin', 'dvflow');
  rmSync(bin, { force: true });
  symlinkSync(join('..', '..', 'lib', 'cli', 'bundled', 'main.js'), bin);
  writeFileSync(STAMP, sourceHash());
}

/** Kubernetes' and Temporal's programs: found or built by the code that was just compiled. */
function prepareTools() {
  run(join(ROOT, 'node_modules', '.bin', 'node'), [join(ROOT, 'lib', 'local', 'tools-main.js')]);
}

function main(purpose) {
  if (purpose === 'link') return link();
  checkSystem();
  if (purpose in INCLUDED) installPackages(purpose);
  installModules();
  build();
  if (purpose === 'demo' || purpose === 'test') prepareTools();
}

const purpose = process.argv[2] ?? 'build';
try {
  if (!['build', 'demo', 'test', 'bench', 'link'].includes(purpose))
    throw new SetupError(`unknown purpose '${purpose}': demo, test, bench or link`);
  main(purpose);
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  process.stderr.write(`setup: ${error.message}\n`);
  process.exitCode = 1;
}
