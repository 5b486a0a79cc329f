import { startBlank } from '../../client/index.js';
import { withTemporal } from '../connections.js';
import { blankManifestOf, type BlankOptions } from '../manifest.js';
import type { OutputOptions } from '../output.js';
import { show } from './import.js';

/** Makes a blank disk through Temporal and, unless told otherwise, shows it to its end. */
export async function runBlank(
  options: BlankOptions & OutputOptions & { readonly wait?: boolean },
): Promise<void> {
  await withTemporal(async (client) => {
    const handle = await startBlank(client, blankManifestOf(options));
    await show(client, handle, { ...options, name: `blank disk ${options.namespace}/${options.name}` });
  });
}
