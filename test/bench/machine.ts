import { readFileSync } from 'node:fs';
import { arch, availableParallelism, cpus, release, totalmem } from 'node:os';
import { bash } from './processes.js';

/** Tools whose version matters, with the line that prints it. */
const VERSIONS = {
  'qemu-img': 'qemu-img --version | head -n 1',
  nbdkit: 'nbdkit --version',
  nbdcopy: 'nbdcopy --version',
  nginx: 'nginx -v 2>&1',
  curl: 'curl --version | head -n 1',
  xz: 'xz --version | head -n 1',
  gzip: 'gzip --version | head -n 1',
} as const;

/** The machine and its programs, on one line, without a name or path of it. */
export async function describeMachine(directory: string): Promise<string> {
  const versions = await Promise.all(
    Object.entries(VERSIONS).map(async ([name, script]) => `${name} ${versionIn(await bash(script))}`),
  );
  const fileSystem = (await bash('stat -f -c %T "$DIRECTORY"', { env: { DIRECTORY: directory } })).trim();
  const memory = Math.round(totalmem() / 1024 ** 3);
  return [
    `${availableParallelism()} × ${cpus()[0]?.model.trim() ?? arch()}`,
    `${memory} GiB`,
    `Linux ${release().split('-')[0]}${isVirtual() ? ' (virtual machine)' : ''}`,
    fileSystem,
    `Node ${process.versions.node}`,
    ...versions,
  ].join(', ');
}

/** The first version number in what a tool prints. */
export function versionIn(output: string): string {
  return /\d+(?:\.\d+)+/.exec(output)?.[0] ?? 'of unknown version';
}

function isVirtual(): boolean {
  return /^flags.*\bhypervisor\b/m.test(readFileSync('/proc/cpuinfo', 'utf8'));
}
