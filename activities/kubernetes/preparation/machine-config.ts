/**
 * The MachineConfig that labels backing directories on RHCOS (`vm-disks-docs.md` M1, with the better unit of §(e3)): `oneshot`, so
 * that the kubelet waits for the label; it stays active, so that its state can be seen; and it makes the directory, without which
 * chcon fails and nobody hears of it.
 */
import type { BackingDirectory, ProvisionerRef } from '../../types/preparation.js';
import { ownershipMarks } from './ownership.js';
import { MACHINE_CONFIG_GROUP, MACHINE_CONFIG_VERSION, ROLE_LABEL, type MachineConfig } from './objects.js';

/** Versions of the Ignition specification that this unit is written for, and that OpenShift 4.2 and later understand. */
export type IgnitionVersion = '2.2.0' | '3.1.0' | '3.2.0';

/** The documents' HostPathProvisioner, whose unit has its name. */
const DOCUMENTED = 'hostpath-provisioner';

/**
 * Name of the unit: that of the documents, for a HostPathProvisioner of the documents' name. Any other name says whose the unit is,
 * since one that is called `kubelet` must not replace the node's own.
 */
export function unitName(provisioner: string): string {
  return provisioner === DOCUMENTED ? `${DOCUMENTED}.service` : `dvflow-hostpath-${provisioner}.service`;
}

/** Name of the MachineConfig: `50-` puts it behind what the operator makes itself, since a pool merges them by name. */
export function machineConfigName(provisioner: string, role: string): string {
  return `50-set-selinux-for-${provisioner}-${role}`;
}

/** The unit's text. */
export function unitContents(paths: readonly string[]): string {
  const lines = [
    '[Unit]',
    'Description=Set the SELinux label of hostpath provisioner directories',
    'Before=kubelet.service',
    '',
    '[Service]',
    'Type=oneshot',
    'RemainAfterExit=yes',
    // `-`: a directory that cannot be made is told by the chcon that follows
    ...paths.map((path) => `ExecStartPre=-/usr/bin/mkdir -p -- ${quoted(path)}`),
    ...paths.map((path) => `ExecStart=/usr/bin/chcon -Rt container_file_t -- ${quoted(path)}`),
    '',
    '[Install]',
    'WantedBy=multi-user.target',
  ];
  return `${lines.join('\n')}\n`;
}

/** One word of a command line (systemd.syntax(7), systemd.unit(5)): `%` begins a specifier there, `$` a variable. */
function quoted(path: string): string {
  const text = path.replaceAll('%', '%%').replaceAll('$', '$$$$');
  return /^[\w./%$:@+=-]+$/.test(text) ? text : `"${text.replace(/["\\]/g, '\\$&')}"`;
}

/** The object for the pools that select `role`. */
export function machineConfigBody(
  { name, uid }: ProvisionerRef,
  {
    role,
    directories,
    ignition,
  }: {
    role: string;
    directories: readonly BackingDirectory[];
    ignition: IgnitionVersion;
  },
): MachineConfig {
  const contents = unitContents(directories.map(({ path }) => path));
  const of = machineConfigName(name, role);
  const { labels, annotations } = ownershipMarks({ name, uid }, of);
  return {
    apiVersion: `${MACHINE_CONFIG_GROUP}/${MACHINE_CONFIG_VERSION}`,
    kind: 'MachineConfig',
    metadata: {
      name: of,
      labels: { [ROLE_LABEL]: role, ...labels },
      annotations,
    } as unknown as MachineConfig['metadata'],
    spec: {
      config: {
        ignition: { version: ignition },
        systemd: { units: [{ name: unitName(name), enabled: true, contents }] },
      },
    },
  };
}

/**
 * The newest version that the cluster understands, judged by the configuration that it renders itself: OpenShift up to 4.5 writes
 * and takes 2.2.0 only, later releases write 3.x and take every 3.y up to it. Unknown: 3.2.0, which all releases in support take.
 */
export function ignitionFor(rendered: readonly (string | undefined)[]): IgnitionVersion {
  const known = rendered.flatMap((text) => {
    const [major = NaN, minor = NaN] = (text ?? '').split('.').map(Number);
    return Number.isInteger(major) && Number.isInteger(minor) ? [{ major, minor }] : [];
  });
  const [first] = known;
  if (!first) return '3.2.0';
  const oldest = known.reduce((a, b) => ((a.major - b.major || a.minor - b.minor) < 0 ? a : b), first);
  if (oldest.major < 3) return '2.2.0';
  return oldest.minor < 2 ? '3.1.0' : '3.2.0';
}

/** Whether a MachineConfig, anybody's, gives all these paths their label by a unit that is enabled. */
export function labelsPaths({ spec }: MachineConfig, paths: readonly string[]): boolean {
  const commands = (spec?.config?.systemd?.units ?? [])
    .filter(({ enabled }) => enabled === true)
    .flatMap(({ contents = '' }) => contents.split('\n'))
    .map((line) => line.trim())
    .filter((line) => /^ExecStart(Pre|Post)?=\S*\bchcon\b/.test(line) && line.includes('container_file_t'))
    // a label of the directory alone leaves the volumes in it as they are
    .filter((line) => / (-[a-zA-Z]*R[a-zA-Z]*|--recursive)(?= )/.test(line));
  return paths.every((path) =>
    commands.some((line) =>
      [path, quoted(path)].some((word) => line.replace(/\/$/, '').endsWith(` ${word}`)),
    ),
  );
}

/** Whether a configuration has a unit of one of the other's names: of two with one name a node gets one only. */
export function sharesUnits({ spec }: MachineConfig, other: MachineConfig): boolean {
  const names = (other.spec?.config?.systemd?.units ?? []).map(({ name }) => name);
  return (spec?.config?.systemd?.units ?? []).some(({ name }) => names.includes(name));
}

/** Whether a configuration, a rendered one above all, holds every unit of another as it is there. */
export function holdsUnits({ spec }: MachineConfig, of: MachineConfig): boolean {
  const units = spec?.config?.systemd?.units ?? [];
  return (of.spec?.config?.systemd?.units ?? []).every((wanted) =>
    units.some(
      ({ name, enabled, contents }) =>
        name === wanted.name && enabled === wanted.enabled && contents === wanted.contents,
    ),
  );
}
