/** SELinux as a node's kernel tells it, and labels as text (`vm-disks-docs.md` §(e1)). */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { SelinuxMode } from '../../types/preparation.js';
import { codeOf } from '../directories.js';

/** Where the kernel shows SELinux; nothing is mounted there while it is disabled. */
export const SELINUXFS = '/sys/fs/selinux';

/** Type that containers may write to. */
export const CONTAINER_TYPE = 'container_file_t';

/** The type's name in policies before container-selinux, where `container_file_t` is an alias of it or the other way round. */
const OLDER_TYPE = 'svirt_sandbox_file_t';

/** Context of a directory that has none, as the kubelet gives its own: only the type is ever changed of one that has. */
const WHOLE_LABEL = `system_u:object_r:${CONTAINER_TYPE}:s0`;

/** What the kernel does about labels. `selinuxfs` is its file system. */
export async function selinuxMode(selinuxfs: string = SELINUXFS): Promise<SelinuxMode> {
  try {
    return (await readFile(join(selinuxfs, 'enforce'), 'utf8')).trim() === '1' ? 'enforcing' : 'permissive';
  } catch (error) {
    if (!['ENOENT', 'ENOTDIR'].includes(String(codeOf(error)))) throw error;
    return 'disabled';
  }
}

/** The type, the third field of a context: `var_t`; absent where it is no context. */
export function typeOf(label: string): string | undefined {
  const [user, role, type] = label.split(':');
  return user && role && type ? type : undefined;
}

/** Whether containers may write to what carries this label: the type decides, whoever set it. */
export function isContainerLabel(label: string | undefined): boolean {
  const type = label === undefined ? undefined : typeOf(label);
  return type === CONTAINER_TYPE || type === OLDER_TYPE;
}

/** The label with the type that containers may write to; user, role and level stay, as with `chcon -t`. */
export function containerLabel(label: string | undefined): string {
  if (label === undefined || typeOf(label) === undefined) return WHOLE_LABEL;
  const [user, role, , ...level] = label.split(':');
  return [user, role, CONTAINER_TYPE, ...level].join(':');
}

/** Which label a directory has, and which it needs, in one clause. */
export function describeLabel(label: string | undefined): string {
  const has = label === undefined ? 'has no SELinux label' : `has the SELinux label ${label}`;
  return isContainerLabel(label) ? has : `${has} and needs the type ${CONTAINER_TYPE}`;
}
