/**
 * Run by `npm run build`: puts the program, and what it starts beside itself, into a few files. Finding and reading some hundred
 * modules takes longer than the whole conversion of a small image. What a command does not need stays in chunks of its own, and
 * packages stay where npm has put them, but for those of `INSIDE`. The depth of the folder is that of a module's own: paths relative
 * to it hold in both.
 */
import { rm } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { build, type Plugin } from 'esbuild';

const built = (path: string): string => fileURLToPath(new URL(`../${path}`, import.meta.url));
const outdir = built('cli/bundled');

/** A thousand files of models, 40 MiB of a process's memory when they are read one by one. */
const INSIDE = ['@kubernetes/client-node'];

/** Our own modules' imports of packages stay imports; what a package of `INSIDE` imports is put beside it. */
const packages: Plugin = {
  name: 'packages',
  setup(builder) {
    builder.onResolve({ filter: /^[^./]/ }, ({ path, importer, kind }) =>
      kind === 'entry-point' || INSIDE.includes(path) || importer.includes('/node_modules/')
        ? undefined
        : { path, external: true },
    );
  },
};

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
  plugins: [packages],
  // what CommonJS inside asks for
  banner: {
    js: "import { createRequire as requireFrom } from 'node:module'; const require = requireFrom(import.meta.url);",
  },
  sourcemap: 'linked',
  keepNames: true,
  logLevel: 'warning',
});
