import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * The command line that confines a program by Landlock and seccomp, as everybody may, wherever the kernel has them; `sockets`
 * descriptors from 3 on stay open to it.
 */
export function confineCommand(sockets: number): readonly string[] {
  const extension = extname(import.meta.url);
  // a source needs what this process was given to run sources
  const loader = extension === '.ts' ? process.execArgv : [];
  const path = fileURLToPath(new URL(`./confine${extension}`, import.meta.url));
  return [process.execPath, ...loader, path, `${sockets}`];
}
