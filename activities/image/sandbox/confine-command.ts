import { createRequire } from 'node:module';
import { extname } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

/**
 * The command line that confines a program by Landlock and seccomp, as everybody may, wherever the kernel has them; `sockets`
 * descriptors from 3 on stay open to it.
 */
export function confineCommand(sockets: number): readonly string[] {
  const extension = extname(import.meta.url);
  const loader =
    extension === '.ts'
      ? ['--import', pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href]
      : [];
  const path = fileURLToPath(new URL(`./confine${extension}`, import.meta.url));
  return [process.execPath, ...loader, path, `${sockets}`];
}
