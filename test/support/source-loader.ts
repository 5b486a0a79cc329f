/** Options of `node` by which it runs the sources, from any directory. */
export const SOURCE_LOADER: readonly string[] = [
  '--import',
  new URL('./typescript.js', import.meta.url).href,
];
