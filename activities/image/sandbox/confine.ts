/**
 * A program that gives up what a decoder has no use for, and becomes the program that its arguments name. For machines that
 * forbid namespaces to everybody (containers under a runtime's seccomp profile, distributions that restrict user namespaces).
 * What this does not hide, and namespaces do: that a file exists, its size, and the numbers of other processes.
 */
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

if (process.getuid?.() === 0) {
  process.setgroups?.([]);
  process.setgid?.(NOBODY);
  process.setuid?.(NOBODY);
}
const calls = libc();
if (calls.prctl(NO_NEW_PRIVS, 1, 0, 0, 0) !== 0) process.exit(CANNOT_RUN);
confineFiles(calls);
confineCalls(calls);
const [sockets, file = '', ...args] = process.argv.slice(2);
for (let fd = 0; fd < STANDARD + Number(sockets); fd += 1) calls.fcntl(fd, SET_FLAGS, KEEP_OPEN);
calls.execvp(file, [file, ...args, null]);
process.exit(CANNOT_RUN);
