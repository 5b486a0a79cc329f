/** The backing directory of a pool on one node: made, described, read back. */
import { constants, type Stats } from 'node:fs';
import { mkdir, open, realpath, stat, statfs } from 'node:fs/promises';
import { failureTypeOf, transientFailure } from '../../failures.js';
import type { PoolRef } from '../../types.js';
import type { BackingDirectoryFacts, SelectedNode, VerifiedDirectory } from '../../types/preparation.js';
import { deniedFailure, nearestExisting } from '../denied.js';
import { codeOf, undefinedIfAbsent } from '../directories.js';
import type { Place } from '../place.js';
import { OVERLAY } from '../pool.js';
import { sharedSystemPath } from './os-partition.js';
import { describeLabel, isContainerLabel, selinuxMode } from './selinux.js';
import { openLabelAccess } from './xattr.js';

/** As the kubelet makes a `DirectoryOrCreate`. */
const DIRECTORY_MODE = 0o755;

/** The node, and where its kernel shows SELinux. */
export interface PreparationContext {
  readonly node: string;
  /** @default '/sys/fs/selinux' */
  readonly selinuxfs?: string | undefined;
}

/** See `NodeActivities.ensureBackingDirectory`. @throws {@link FailureType} retried: `NodeUnavailable`, `PermissionDenied` */
export async function ensureBackingDirectory(
  { pool: { path }, labelledBy }: { pool: Pick<PoolRef, 'path'> } & Pick<SelectedNode, 'labelledBy'>,
  context: PreparationContext,
): Promise<BackingDirectoryFacts> {
  const { node, selinuxfs } = context;
  try {
    const selinux = await selinuxMode(selinuxfs);
    const before = await statDirectory(path, node);
    if (!before && labelledBy === 'machineConfig') return { path, created: false, selinux };
    if (!before) await make(path, node);
    const label = selinux === 'disabled' ? undefined : openLabelAccess().read(path);
    const sharedWith = await sharedSystemPath(await realpath(path));
    return {
      path,
      created: !before,
      selinux,
      ...(label === undefined ? {} : { label }),
      ...(sharedWith === undefined ? {} : { sharedWith }),
    };
  } catch (error) {
    throw await preparationFailure(error, { doing: `make ${path}`, path, context });
  }
}

/** See `NodeActivities.verifyBackingDirectory`. */
export async function verifyBackingDirectory(
  { path }: { path: string },
  context: PreparationContext,
): Promise<VerifiedDirectory> {
  const { node, selinuxfs } = context;
  const selinux = await selinuxMode(selinuxfs);
  if (!(await statDirectory(path, node))) {
    return { path, selinux, labelled: false, message: `directory ${path} does not exist on node ${node}` };
  }
  if (selinux === 'disabled') return { path, selinux, labelled: true, message: 'SELinux is disabled' };
  const label = openLabelAccess().read(path);
  const message = `directory ${path} on node ${node} ${describeLabel(label)} (SELinux is ${selinux})`;
  return {
    path,
    selinux,
    ...(label === undefined ? {} : { label }),
    labelled: isContainerLabel(label),
    message,
  };
}

/** Opens the directory to work below it. @throws {@link FailureType} `NodeUnavailable` where it is none */
export async function openBackingDirectory(path: string, node: string): Promise<Place & AsyncDisposable> {
  const found = await open(path, constants.O_RDONLY | constants.O_DIRECTORY).catch(undefinedIfAbsent);
  if (!found) throw missing(path, node, 'does not exist');
  return found;
}

/** What to throw for an error met while a directory was prepared. */
export async function preparationFailure(
  error: unknown,
  { doing, path, context }: { doing: string; path: string; context: PreparationContext },
): Promise<unknown> {
  const { node, selinuxfs } = context;
  if (failureTypeOf(error)) return error;
  const denied = await deniedFailure(error, { doing, directory: path, node, selinuxfs });
  if (denied !== error) return denied;
  const reason = REASONS[String(codeOf(error))];
  if (reason) return missing(path, node, reason, error);
  return error;
}

/** What the kernel's refusals of a label or a directory mean to an operator. */
const REASONS: Readonly<Record<string, string>> = {
  EROFS:
    'lies on a file system that is mounted read-only: name one below a writable mount (on RHCOS below /var)',
  ENOTDIR: 'is no directory, or lies below something that is none',
  EEXIST: 'is no directory',
  ENOSPC: 'cannot be made: its file system is full',
  ENOTSUP:
    'lies on a file system that keeps no SELinux labels: mount it with the option context=…:container_file_t:…',
  EOPNOTSUPP:
    'lies on a file system that keeps no SELinux labels: mount it with the option context=…:container_file_t:…',
  EINVAL: 'cannot get the type container_file_t, which this policy does not know: install container-selinux',
};

function missing(path: string, node: string, reason: string, cause?: unknown): Error {
  return transientFailure('NodeUnavailable', `backing directory ${path} on node ${node} ${reason}`, {
    cause,
  });
}

async function statDirectory(path: string, node: string): Promise<Stats | undefined> {
  const found = await stat(path).catch(undefinedIfAbsent);
  if (!found || found.isDirectory()) return found;
  throw missing(path, node, 'is no directory');
}

/** Makes it with every parent that is missing; below a container's own layer it would end with the container. */
async function make(path: string, node: string): Promise<void> {
  if ((await statfs(await nearestExisting(path))).type === OVERLAY) {
    throw missing(
      path,
      node,
      'is missing, and the worker there sees no disk of the node at that path: mount it',
    );
  }
  await mkdir(path, { recursive: true, mode: DIRECTORY_MODE });
}
