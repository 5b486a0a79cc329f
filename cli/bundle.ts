/**
 * Run by `npm run build`: puts the program, and what it starts beside itself, into a few files. Finding and reading some hundred
 * modules takes longer than the whole conversion of a small image. What a command does not need stays in chunks of its own, and
 * packages stay where npm has put them. The depth of the folder is that of a module's own: paths relative to it hold in both.
 */
import { rm } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const built = (path: string): string => fileURLToPath(new URL(`../${path}`, import.meta.url));
const outdir = built('cli/bundled');

await rm(outdir, { recursive: true, force: true });
await build({
  entryPoints: [
    built('cli/main.js'),
    // each is looked for beside the module that starts it
    built('activities/image/child.js'),
    built('activities/image/decode/decode-thread.js'),
    built('activities/image/sandbox/confine.js'),
    built('activities/image/verify/hash-thread.js'),
  ],
  outdir,
  entryNames: '[name]',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node22.19',
  packages: 'external',
  sourcemap: 'linked',
  keepNames: true,
  logLevel: 'warning',
});
