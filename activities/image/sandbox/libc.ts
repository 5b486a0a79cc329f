import koffi from 'koffi';

/** The few functions of the C library that Node has no word for. */
export interface Libc {
  prctl(option: number, a: number, b: unknown, c: number, d: number): number;
  fcntl(fd: number, command: number, value: number): number;
  /** `syscall(2)` whose first argument is memory, or nothing. */
  syscallOn(number: number, memory: Buffer | null, a: number, b: number): number;
  /** `syscall(2)` whose third argument is memory. */
  syscallWith(number: number, a: number, b: number, memory: Buffer | null, c: number): number;
  /** `prctl(PR_SET_SECCOMP)` with a filter. */
  setFilter(
    option: number,
    mode: number,
    program: { len: number; filter: Buffer },
    a: number,
    b: number,
  ): number;
  /** Does not return where it succeeds. */
  execvp(file: string, args: readonly (string | null)[]): number;
  /** Ends this process at once: nothing of Node runs any more. */
  _exit(code: number): void;
}

/** Loads them; throws where the C library is not there under its name. */
export function libc(): Libc {
  const library = koffi.load('libc.so.6');
  koffi.struct('sock_fprog', { len: 'uint16_t', filter: 'uint8_t *' });
  return {
    prctl: library.func(
      'int prctl(int, unsigned long, void *, unsigned long, unsigned long)',
    ) as Libc['prctl'],
    fcntl: library.func('int fcntl(int, int, int)') as Libc['fcntl'],
    syscallOn: library.func('long syscall(long, void *, unsigned long, unsigned long)') as Libc['syscallOn'],
    syscallWith: library.func(
      'long syscall(long, unsigned long, unsigned long, void *, unsigned long)',
    ) as Libc['syscallWith'],
    setFilter: library.func(
      'int prctl(int, unsigned long, sock_fprog *, unsigned long, unsigned long)',
    ) as Libc['setFilter'],
    execvp: library.func('int execvp(const char *, const char **)') as Libc['execvp'],
    _exit: library.func('void _exit(int)') as Libc['_exit'],
  };
}
