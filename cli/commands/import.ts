import type { Client } from '@temporalio/client';
import {
  startImport,
  type CloneResult,
  type ImportResult,
  type LifecycleHandle,
} from '../../client/index.js';
import { withTemporal } from '../connections.js';
import { createView, follow, SILENT, type View } from '../follow.js';
import { manifestOf, type ManifestOptions } from '../manifest.js';
import { print, printJson, tellingFailure, type OutputOptions } from '../output.js';
import { bytes } from '../render/figures.js';

/** Options of `dvflow import`. */
export interface ImportOptions extends ManifestOptions, OutputOptions {
  readonly wait?: boolean;
}

/** Starts an import through Temporal and, unless told otherwise, shows it to its end. */
export async function runImport(url: string, options: ImportOptions): Promise<void> {
  await withTemporal(async (client) => {
    const handle = await startImport(client, manifestOf(url, options));
    await show(client, handle, { ...options, name: `import of ${options.namespace}/${options.name}` });
  });
}

/** Shows a lifecycle that was started to its end, unless told otherwise. */
export async function show(
  client: Client,
  handle: LifecycleHandle<ImportResult | CloneResult>,
  options: OutputOptions & { readonly wait?: boolean; readonly name: string },
): Promise<void> {
  const { workflowId, runId } = handle;
  if (options.wait === false) {
    return options.output === 'json'
      ? printJson({ workflowId, runId })
      : print(`started ${workflowId} (run ${runId})`);
  }
  const json = options.output === 'json';
  const followed = { result: () => handle.result(), status: () => handle.status(), name: options.name };
  const result = await tellingFailure(json, () => follow(client, followed, viewOf(options)), {
    workflowId,
    runId,
  });
  if (json) printJson({ workflowId, runId, ...result });
  else print(resultText(result));
}

/** Where progress goes: the result's own stream, or the terminal beside a JSON document. */
export function viewOf({ output }: OutputOptions): View {
  if (output !== 'json') return createView(process.stdout);
  return process.stderr.isTTY ? createView(process.stderr) : SILENT;
}

/** What came of a lifecycle, in words. */
export function resultText(result: ImportResult): string {
  const { claim, volume, node, virtualSize, bytesTransferred, bytesWritten, checksum } = result;
  const where = `${volume ? ` is Bound to ${volume}` : ''}${node ? ` on node ${node}` : ''}`;
  const figures = [
    ...(virtualSize === undefined ? [] : [`disk ${bytes(virtualSize)}`]),
    ...(bytesTransferred === undefined ? [] : [`read ${bytes(bytesTransferred)}`]),
    ...(bytesWritten === undefined ? [] : [`wrote ${bytes(bytesWritten)}`]),
    ...(checksum ? [checksum] : []),
  ];
  return `claim ${claim.namespace}/${claim.name}${where}${figures.length > 0 ? `: ${figures.join(', ')}` : ''}`;
}
