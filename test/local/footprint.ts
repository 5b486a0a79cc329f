/** What a stack with real nodes has in the kernel: tests compare it with nothing. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { hierarchies } from '../../local/nodes/cgroups.js';
import { KERNEL_SETTINGS } from '../../local/nodes/kubelet.js';

/** Processes, mounts, bridges, cgroups and loop devices of the stack in a directory, each as a line. */
export function footprint(directory: string): readonly string[] {
  const id = createHash('sha256').update(directory).digest('hex').slice(0, 8);
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid);
  const processes = pids.filter((pid) => {
    // A zombie holds nothing; when it goes is its parent's business.
    if (text(`/proc/${pid}/stat`).includes(') Z ')) return false;
    const about = `${text(`/proc/${pid}/cmdline`)} ${text(`/proc/${pid}/cgroup`)}`;
    return about.includes(directory) || about.includes(`dvflow-${id}`);
  });
  const mounts = pids
    .filter((pid) => text(`/proc/${pid}/mountinfo`).includes(directory))
    .map((pid) => `mount in the namespace of ${pid}`);
  return [
    ...processes.map((pid) => `process ${pid} ${text(`/proc/${pid}/cmdline`).replaceAll('\0', ' ')}`),
    ...mounts,
    ...Object.keys(networkInterfaces())
      .concat(readdirSync('/sys/class/net'))
      .filter((name) => name.startsWith(`dvf${id}`))
      .map((name) => `interface ${name}`),
    ...hierarchies().flatMap(({ path }) => groups(path, id)),
    ...allLoopDevices().filter((line) => line.includes(directory)),
  ];
}

/** Loop devices whose file cannot be seen any more: those of a kubelet whose node is gone. */
export function unseenLoopDevices(): readonly string[] {
  return allLoopDevices().filter((line) => line.endsWith(' on /'));
}

function allLoopDevices(): readonly string[] {
  return readdirSync('/sys/block')
    .map((name) => [name, text(`/sys/block/${name}/loop/backing_file`).trim()] as const)
    .filter(([, file]) => file !== '')
    .map(([name, file]) => `loop device ${name} on ${file}`);
}

function groups(path: string, id: string): readonly string[] {
  return readdirSync(path)
    .filter((name) => name.includes(`dvflow-${id}`))
    .map((name) => `cgroup ${join(path, name)}`);
}

/** Settings of the kernel that programs of a node like to change, the firewall's rules included. */
export function machineSettings(): Readonly<Record<string, string>> {
  const names = [...Object.keys(KERNEL_SETTINGS), 'net/ipv4/ip_forward', 'net/ipv4/conf/all/route_localnet'];
  const tables = text('/proc/net/ip_tables_names');
  return { ...Object.fromEntries(names.map((name) => [name, text(join('/proc/sys', name))])), tables };
}

function text(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
