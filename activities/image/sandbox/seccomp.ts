import type { Libc } from './libc.js';

/** What a program that decodes from its open descriptors never calls: network, other processes, namespaces, and wide doors of the kernel. */
const FORBIDDEN: Readonly<Record<string, { readonly audit: number; readonly calls: readonly number[] }>> = {
  // numbers of `asm/unistd_64.h`, in the order of the list below
  x64: {
    audit: 0xc000_003e,
    calls: [
      41, 42, 43, 288, 49, 50, 53, 101, 310, 311, 62, 200, 129, 297, 424, 434, 438, 272, 308, 165, 166, 155,
      161, 304, 425, 426, 427, 321, 298, 323, 248, 249, 250, 428, 429, 430, 432, 442, 29, 30, 64, 68,
    ],
  },
  // numbers of `asm-generic/unistd.h`
  arm64: {
    audit: 0xc000_00b7,
    calls: [
      198, 203, 202, 242, 200, 201, 199, 117, 270, 271, 129, 130, 138, 240, 424, 434, 438, 97, 268, 40, 39,
      41, 51, 265, 425, 426, 427, 280, 241, 282, 217, 218, 219, 428, 429, 430, 432, 442, 194, 196, 190, 186,
    ],
  },
};
/*
 * socket, connect, accept, accept4, bind, listen, socketpair, ptrace, process_vm_readv, process_vm_writev, kill, tkill,
 * rt_sigqueueinfo, rt_tgsigqueueinfo, pidfd_send_signal, pidfd_open, pidfd_getfd, unshare, setns, mount, umount2, pivot_root,
 * chroot, open_by_handle_at, io_uring_setup, io_uring_enter, io_uring_register, bpf, perf_event_open, userfaultfd, add_key,
 * request_key, keyctl, open_tree, move_mount, fsopen, fsmount, mount_setattr, shmget, shmat, semget, msgget
 */

/** Looked at more closely: `clone` may make threads but no namespaces, `clone3` hides which, and `tgkill` is for oneself. */
const CLOSER: Readonly<Record<string, { clone: number; clone3: number; tgkill: number }>> = {
  x64: { clone: 56, clone3: 435, tgkill: 234 },
  arm64: { clone: 220, clone3: 435, tgkill: 131 },
};
/** All `CLONE_NEW…` */
const NEW_NAMESPACES = 0x7e02_0080;
/** From here on x86-64 numbers are those of its 32-bit twin, which the list does not hold. */
const X32 = 0x4000_0000;

/** Classic BPF (`linux/filter.h`, `linux/seccomp.h`). */
const LOAD = 0x20;
const IF_EQUAL = 0x15;
const IF_AT_LEAST = 0x35;
const IF_ANY_BIT = 0x45;
const RETURN = 0x06;
const ALLOW = 0x7fff_0000;
const KILL = 0x8000_0000;
const refuseWith = (errno: number): number => 0x0005_0000 + errno;
const EPERM = 1;
const ENOSYS = 38;
/** Offsets in `seccomp_data`; a little-endian machine has an argument's low half first. */
const NUMBER = 0;
const ARCHITECTURE = 4;
const FIRST_ARGUMENT = 16;

const SET_SECCOMP = 22;
const FILTER_MODE = 2;

type Step = readonly [code: number, ifTrue: number, ifFalse: number, value: number];

/** From now on this thread, and what it becomes, makes none of those calls. @throws where that is not to be had */
export function confineCalls(calls: Libc): void {
  const steps = program(process.arch, process.pid);
  const filter = Buffer.alloc(8 * steps.length);
  for (const [index, [code, ifTrue, ifFalse, value]] of steps.entries()) {
    filter.writeUInt16LE(code, 8 * index);
    filter.writeUInt8(ifTrue, 8 * index + 2);
    filter.writeUInt8(ifFalse, 8 * index + 3);
    filter.writeUInt32LE(value, 8 * index + 4);
  }
  if (calls.setFilter(SET_SECCOMP, FILTER_MODE, { len: steps.length, filter }, 0, 0) !== 0)
    throw new Error('the kernel takes no seccomp filter');
}

function program(architecture: string, pid: number): Step[] {
  const forbidden = FORBIDDEN[architecture];
  const closer = CLOSER[architecture];
  if (!forbidden || !closer) throw new Error(`no seccomp filter for ${architecture}`);
  const whenArgument = (call: number, test: Step, errno: number): Step[] => [
    [IF_EQUAL, 0, 3, call],
    [LOAD, 0, 0, FIRST_ARGUMENT],
    test,
    [RETURN, 0, 0, refuseWith(errno)],
  ];
  return [
    [LOAD, 0, 0, ARCHITECTURE],
    [IF_EQUAL, 1, 0, forbidden.audit],
    [RETURN, 0, 0, KILL],
    [LOAD, 0, 0, NUMBER],
    [IF_AT_LEAST, 0, 1, X32],
    [RETURN, 0, 0, refuseWith(EPERM)],
    ...forbidden.calls.flatMap((call): Step[] => [
      [IF_EQUAL, 0, 1, call],
      [RETURN, 0, 0, refuseWith(EPERM)],
    ]),
    [IF_EQUAL, 0, 1, closer.clone3],
    [RETURN, 0, 0, refuseWith(ENOSYS)],
    ...whenArgument(closer.clone, [IF_ANY_BIT, 0, 1, NEW_NAMESPACES], EPERM),
    [LOAD, 0, 0, NUMBER],
    ...whenArgument(closer.tgkill, [IF_EQUAL, 1, 0, pid], EPERM),
    [RETURN, 0, 0, ALLOW],
  ];
}
