import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { findNodeProgram } from './requirements.js';
import { runTool } from './run-tool.js';

/** Image of the container that holds a pod's namespaces. */
export const PAUSE_IMAGE = 'localhost/dvflow/pause:local';

/** Image with a shell and the usual small tools, for pods that look into a volume. */
export const BUSYBOX_IMAGE = 'localhost/dvflow/busybox:local';

/**
 * Writes both images as one archive (`docker save`'s form), made from Debian's static busybox: no registry is asked.
 * @returns its path
 */
export async function writeImages(directory: string): Promise<string> {
  const work = mkdtempSync(join(directory, 'images-'));
  try {
    const layer = await writeLayer(work);
    const digest = createHash('sha256')
      .update(readFileSync(join(work, layer)))
      .digest('hex');
    const pause = writeConfig(work, 'pause.json', digest, ['/bin/sleep', '2147483647']);
    const busybox = writeConfig(work, 'busybox.json', digest, ['/bin/sh']);
    const manifest = [
      { Config: pause, RepoTags: [PAUSE_IMAGE], Layers: [layer] },
      { Config: busybox, RepoTags: [BUSYBOX_IMAGE], Layers: [layer] },
    ];
    writeFileSync(join(work, 'manifest.json'), JSON.stringify(manifest));
    const path = join(directory, 'images.tar');
    await archive(work, `${path}.new`, ['manifest.json', pause, busybox, layer]);
    renameSync(`${path}.new`, path);
    return path;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** The one layer: busybox under the name of each of its tools, and the directories that programs expect. */
async function writeLayer(work: string): Promise<string> {
  const busybox = findNodeProgram('busybox');
  if (busybox === undefined) throw new Error('busybox is not installed: apt-get install busybox-static');
  const root = join(work, 'root');
  for (const name of ['bin', 'etc', 'tmp']) mkdirSync(join(root, name), { recursive: true, mode: 0o755 });
  copyFileSync(busybox, join(root, 'bin', 'busybox'));
  const { status } = spawnSync('chroot', [root, '/bin/busybox', 'true']);
  if (status !== 0) throw new Error(`${busybox} needs libraries: apt-get install busybox-static`);
  const tools = spawnSync(busybox, ['--list'], { encoding: 'utf8' }).stdout.trim().split('\n');
  for (const tool of tools) if (tool !== 'busybox') symlinkSync('busybox', join(root, 'bin', tool));
  writeFileSync(join(root, 'etc', 'passwd'), 'root:x:0:0::/:/bin/sh\nqemu:x:107:107::/:/bin/sh\n');
  await archive(root, join(work, 'layer.tar'), ['bin', 'etc', 'tmp']);
  return 'layer.tar';
}

function writeConfig(work: string, name: string, digest: string, command: readonly string[]): string {
  const config = {
    architecture: process.arch === 'x64' ? 'amd64' : process.arch,
    os: 'linux',
    config: { Cmd: command, Env: ['PATH=/bin'] },
    rootfs: { type: 'layers', diff_ids: [`sha256:${digest}`] },
    history: [{ created_by: 'dvflow local' }],
  };
  writeFileSync(join(work, name), JSON.stringify(config));
  return name;
}

/** Always the same bytes for the same files. */
async function archive(directory: string, path: string, names: readonly string[]): Promise<void> {
  const plain = ['--format=ustar', '--sort=name', '--mtime=@0', '--owner=0', '--group=0', '--numeric-owner'];
  await runTool('tar', ...plain, '-C', directory, '-cf', path, ...names);
}
