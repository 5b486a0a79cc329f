import { startClone } from '../../client/index.js';
import { withTemporal } from '../connections.js';
import { cloneManifestOf, type CloneOptions } from '../manifest.js';
import type { OutputOptions } from '../output.js';
import { show } from './import.js';

/** Clones a claim through Temporal and, unless told otherwise, shows it to its end. */
export async function runClone(
  source: string,
  options: CloneOptions & OutputOptions & { readonly wait?: boolean },
): Promise<void> {
  const manifest = cloneManifestOf(source, options);
  await withTemporal(async (client) => {
    const handle = await startClone(client, manifest);
    await show(client, handle, { ...options, name: `clone ${options.namespace}/${options.name}` });
  });
}
