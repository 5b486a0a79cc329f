/**
 * A program that gives up what a decoder has no use for, and becomes the program that its arguments name. For machines that
 * forbid namespaces to everybody (containers under a runtime's seccomp profile, distributions that restrict user namespaces).
 * What this does not hide, and namespaces do: that a file exists, its size, and the numbers of other processes.
 */
import { writeSync } from 'node:fs';
import { confineFiles } from './landlock.js';
import { libc } from './libc.js';
import { confineCalls } from './seccomp.js';

/** `overflowuid`: nobody. */
const NOBODY = 65_534;
/** `PR_SET_NO_NEW_PRIVS`, without which neither of the two may be used. */
const NO_NEW_PRIVS = 38;
/** `F_SETFD` without `FD_CLOEXEC`, which Node sets on everything it was started with. */
const SET_FLAGS = 2;
const KEEP_OPEN = 0;
/** Standard input, output and error. */
const STANDARD = 3;
/** What a shell says of a program that cannot be run. */
const CANNOT_RUN = 126;

const calls = libc();
try {
  become();
} catch (error) {
  writeSync(2, `${String(error)}\n`);
  // Node itself may wait for ever as it exits (https://github.com/nodejs/node/issues/54918), or abort for want of `io_uring_enter`
  calls._exit(CANNOT_RUN);
}

/** Does not return. @throws where the program cannot be confined or run */
function become(): never {
  if (process.getuid?.() === 0) {
    process.setgroups?.([]);
    process.setgid?.(NOBODY);
    process.setuid?.(NOBODY);
  }
  if (calls.prctl(NO_NEW_PRIVS, 1, 0, 0, 0) !== 0) throw new Error('the kernel has no no_new_privs');
  confineFiles(calls);
  confineCalls(calls);
  const [sockets, file = '', ...args] = process.argv.slice(2);
  for (let fd = 0; fd < STANDARD + Number(sockets); fd += 1) calls.fcntl(fd, SET_FLAGS, KEEP_OPEN);
  calls.execvp(file, [file, ...args, null]);
  throw new Error(`cannot run ${file}`);
}
