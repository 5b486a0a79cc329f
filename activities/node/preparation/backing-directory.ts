/** The backing directory of a pool on one node: made, described, read back. */
import { constants, type Stats } from 'node:fs';
import { mkdir, open, realpath, stat, statfs } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { refusalOfPlace } from '../../backing-path.js';
import { failureTypeOf, transientFailure } from '../../failures.js';
import type { PoolRef } from '../../types.js';
import type { BackingDirectoryFacts, SelectedNode, VerifiedDirectory } from '../../types/preparation.js';
import { requireAnswer } from '../answers.js';
import { deniedFailure, nearestExisting } from '../denied.js';
import { codeOf, undefinedIfAbsent } from '../directories.js';
import { OVERLAY } from '../overlay.js';
import { requireMounted } from '../pool.js';
import type { PoolContext } from '../pool-memory.js';
import { childOf, itself, type Place } from '../place.js';
import { sharedSystemPath } from './os-partition.js';
import { describeLabel, isContainerLabel, selinuxMode } from './selinux.js';
import { openLabelAccess } from './xattr.js';

/** As the kubelet makes a `DirectoryOrCreate`. */
const DIRECTORY_MODE = 0o755;

/** The node, and what it knows of the pool. */
export type PreparationContext = PoolContext;

/** See `NodeActivities.ensureBackingDirectory`. @throws {@link FailureType} retried: `NodeUnavailable`, `PermissionDenied` */
export async function ensureBackingDirectory(
  { pool: { path }, labelledBy }: { pool: Pick<PoolRef, 'path'> } & Pick<SelectedNode, 'labelledBy'>,
  context: PreparationContext,
): Promise<BackingDirectoryFacts> {
  const { node, selinuxfs } = context;
  try {
    const selinux = await selinuxMode(selinuxfs);
    await requireMounted(path, context);
    const missed = await refuseUnseen(path, node);
    if (missed && labelledBy === 'machineConfig') return { path, created: false, selinux };
    if (missed) await mkdir(path, { recursive: true, mode: DIRECTORY_MODE });
    await using root = await openBackingDirectory(path, node);
    const label = selinux === 'disabled' ? undefined : openLabelAccess().read(childOf(root, '.'));
    const sharedWith = await sharedSystemPath(await realpath(itself(root)));
    return {
      path,
      created: missed,
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
  try {
    return await verify(path, context);
  } catch (error) {
    throw await preparationFailure(error, { doing: `look at ${path}`, path, context });
  }
}

async function verify(path: string, context: PreparationContext): Promise<VerifiedDirectory> {
  const { node, selinuxfs } = context;
  await requireMounted(path, context);
  const selinux = await selinuxMode(selinuxfs);
  if (!(await statDirectory(path, node))) {
    return { path, selinux, labelled: false, message: `directory ${path} does not exist on node ${node}` };
  }
  await using root = await openBackingDirectory(path, node);
  if (selinux === 'disabled') return { path, selinux, labelled: true, message: 'SELinux is disabled' };
  const label = openLabelAccess().read(childOf(root, '.'));
  const message = `directory ${path} on node ${node} ${describeLabel(label)} (SELinux is ${selinux})`;
  return {
    path,
    selinux,
    ...(label === undefined ? {} : { label }),
    labelled: isContainerLabel(label),
    message,
  };
}

/**
 * Opens the directory to work in it, and judges what has been opened: a link may stand anywhere on the path, and come after a look.
 * @throws {@link FailureType} `NodeUnavailable` where it is none, belongs to the operating system, or does not answer
 */
export async function openBackingDirectory(path: string, node: string): Promise<Place & AsyncDisposable> {
  await requireAnswer(path, node);
  const found = await open(path, constants.O_RDONLY | constants.O_DIRECTORY).catch(undefinedIfAbsent);
  if (!found) throw missing(path, node, 'does not exist');
  try {
    refusePlace(path, await realpath(itself(found)), node);
    return found;
  } catch (error) {
    await found.close();
    throw error;
  }
}

function refusePlace(path: string, real: string, node: string): void {
  const why = refusalOfPlace(real);
  if (why !== undefined) throw missing(path, node, `leads to ${real}, which ${why}`);
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
  await requireAnswer(path, node);
  const found = await stat(path).catch(undefinedIfAbsent);
  if (!found || found.isDirectory()) return found;
  throw missing(path, node, 'is no directory');
}

/**
 * Whether the directory is missing where one may be made, with every parent that is missing too.
 * @throws {@link FailureType} `NodeUnavailable` in a container's own layer, with which it would end, and below what links lead to
 */
async function refuseUnseen(path: string, node: string): Promise<boolean> {
  const found = await statDirectory(path, node);
  const nearest = found ? path : await nearestExisting(path);
  if ((await statfs(nearest)).type === OVERLAY) {
    const what = found ? 'lies in its container' : 'is missing';
    throw missing(
      path,
      node,
      `${what}, and the worker there sees no disk of the node at that path: mount it`,
    );
  }
  refusePlace(path, join(await realpath(nearest), relative(nearest, path)), node);
  return found === undefined;
}
