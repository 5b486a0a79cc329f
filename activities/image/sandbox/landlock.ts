import { closeSync, constants, openSync } from 'node:fs';
import type { Libc } from './libc.js';

/** System calls of Landlock, alike on every architecture (`linux/landlock.h`, `Documentation/userspace-api/landlock.rst`). */
const CALL = { createRuleset: 444, addRule: 445, restrictSelf: 446 } as const;
const CREATE_RULESET_VERSION = 1;
const RULE_PATH_BENEATH = 1;
/** A descriptor that only names a file; Node does not know it. */
const O_PATH = 0o10_000_000;

/** `LANDLOCK_ACCESS_FS_…` */
const EXECUTE = 1 << 0;
const READ_FILE = 1 << 2;
const READ_FOLDER = 1 << 3;
/** How many file rights each version knows; what a version knows is forbidden unless a rule allows it. */
const FILE_RIGHTS: readonly (readonly [version: number, rights: number])[] = [
  [5, 16],
  [3, 15],
  [2, 14],
  [1, 13],
];
/** Both TCP rights (version 4), and both scopes, abstract sockets and signals (version 6). */
const ALL_OF_TWO = 3n;

const READABLE = ['/usr', '/bin', '/sbin', '/lib', '/lib32', '/lib64'];
const LINKER_CACHE = '/etc/ld.so.cache';

/** From now on this thread, and what it becomes, opens nothing but the system's programs and libraries. @throws where that is not to be had */
export function confineFiles(calls: Libc): void {
  const version = calls.syscallOn(CALL.createRuleset, null, 0, CREATE_RULESET_VERSION);
  const rights = FILE_RIGHTS.find(([since]) => version >= since)?.[1];
  if (rights === undefined) throw new Error('the kernel has no Landlock');
  const ruleset = Buffer.alloc(24);
  ruleset.writeBigUInt64LE(2n ** BigInt(rights) - 1n, 0);
  if (version >= 4) ruleset.writeBigUInt64LE(ALL_OF_TWO, 8);
  if (version >= 6) ruleset.writeBigUInt64LE(ALL_OF_TWO, 16);
  const fd = calls.syscallOn(CALL.createRuleset, ruleset, version >= 6 ? 24 : version >= 4 ? 16 : 8, 0);
  if (fd < 0) throw new Error('Landlock takes no rules');

  function allow(path: string, access: number): void {
    const place = openExisting(path);
    if (place === undefined) return;
    const rule = Buffer.alloc(12);
    rule.writeBigUInt64LE(BigInt(access), 0);
    rule.writeInt32LE(place, 8);
    if (calls.syscallWith(CALL.addRule, fd, RULE_PATH_BENEATH, rule, 0) !== 0)
      throw new Error('Landlock refuses a rule');
    closeSync(place);
  }
  for (const folder of READABLE) allow(folder, EXECUTE | READ_FILE | READ_FOLDER);
  allow(LINKER_CACHE, READ_FILE);
  if (calls.syscallWith(CALL.restrictSelf, fd, 0, null, 0) !== 0)
    throw new Error('Landlock does not take effect');
}

function openExisting(path: string): number | undefined {
  try {
    return openSync(path, O_PATH | constants.O_RDONLY);
  } catch {
    return undefined;
  }
}
