/**
 * Run by `npm run build`: puts the program, and what it starts beside itself, into a few files. Finding and reading some hundred
 * modules takes longer than the whole conversion of a small image. What every command needs is one file, and what every transfer
 * needs another; the rest stays in chunks of its own, and packages stay where npm has put them, but for those of `INSIDE`. The depth
 * of the folder is that of a module's own: paths relative to it hold in both.
 */
import { rm } from 'node:fs/promises';
import { isBuiltin } from 'node:module';
import { fileURLToPath } from 'node:url';
import { rolldown, type InputOptions, type OutputOptions, type Plugin } from 'rolldown';

const built = (path: string): string => fileURLToPath(new URL(`../${path}`, import.meta.url));
const dir = built('cli/bundled');

/** Packages of many files, and those that every command loads. Instances of Temporal's failures know each other across copies. */
const INSIDE = /^(?:@kubernetes\/client-node|@temporalio\/common|commander|pretty-bytes)(?:\/|$)/u;

/** Each is looked for beside the module that starts it; a thread reads nothing that it does not need. */
const THREADS = ['decode/decode-thread', 'sandbox/confine', 'verify/hash-thread'];

/** Where a chunk begins; it takes all that these modules import, but for what one before it has taken: none imports a later one. */
const GROUPS = [
  // before what is compiled is kept: what says where
  { name: 'start', test: /\0builtin:|\/lib\/local\/paths\.js$/u, priority: 2 },
  {
    name: 'engine',
    test: /\/lib\/activities\/image\/(?:convert|one-pass|source\/open-source|target\/local-target)\.js$/u,
    priority: 1,
  },
  { name: 'commands', test: /\/lib\/cli\/(?:program|commands\/(?:convert|inspect))\.js$/u },
];

/** What a virtual module's name begins with (a convention of Rollup's plugins). */
const VIRTUAL = '\0';
const BUILTIN = `${VIRTUAL}builtin:`;

/** Modules of Node's that are large, plain collections of functions, and not needed by every command. */
const LARGE = /^node:(?:child_process|crypto|dns|https?|tls|worker_threads|zlib)$/u;

/**
 * Node's own modules by `process.getBuiltinModule`, and the large ones when something of them is used first: an `import` loads a
 * module at once and reads all its exports, those that load further modules included. That is a third of a small command's time.
 */
const builtins: Plugin = {
  name: 'builtins',
  resolveId(id, importer, { kind }) {
    if (!isBuiltin(id) || kind === 'dynamic-import' || importer?.startsWith(VIRTUAL)) return undefined;
    return `${BUILTIN}${id.startsWith('node:') ? id : `node:${id}`}`;
  },
  load(id) {
    if (!id.startsWith(BUILTIN)) return undefined;
    const name = id.slice(BUILTIN.length);
    const module = `process.getBuiltinModule('${name}')`;
    if (!LARGE.test(name)) return `module.exports = ${module};`;
    return `for (const name of ${JSON.stringify(Object.keys(process.getBuiltinModule(name) ?? {}))})
  Object.defineProperty(exports, name, { enumerable: true, get: () => ${module}[name] });`;
  },
};

const input: InputOptions = {
  platform: 'node',
  plugins: [builtins],
  /** Our own modules' imports of packages stay imports; what a package of `INSIDE` imports is put beside it. */
  external: (id, importer) =>
    /^[^./\0]/u.test(id) &&
    !isBuiltin(id) &&
    !INSIDE.test(id) &&
    importer?.includes('/node_modules/') !== true,
  // an import at run time of what a larger chunk holds anyway
  checks: { ineffectiveDynamicImport: false },
};

const output: OutputOptions = {
  dir,
  format: 'esm',
  entryFileNames: '[name].js',
  chunkFileNames: '[name]-[hash].js',
  sourcemap: true,
  keepNames: true,
};

await rm(dir, { recursive: true, force: true });
for (const thread of THREADS) {
  await using bundle = await rolldown({ ...input, input: built(`activities/image/${thread}.js`) });
  await bundle.write({ ...output, codeSplitting: false });
}
await using bundle = await rolldown({
  ...input,
  input: { main: built('cli/main.js'), child: built('activities/image/child.js') },
});
await bundle.write({ ...output, codeSplitting: { groups: GROUPS } });
