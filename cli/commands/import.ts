import { startImport, type DataVolumeManifest, type ImportResult } from '../../client/index.js';
import { withTemporal } from '../connections.js';
import { judge } from '../errors.js';
import { createView, follow, SILENT, type View } from '../follow.js';
import { print, printJson, type OutputOptions } from '../output.js';
import { bytes } from '../render/figures.js';

/** Options of `dvflow import`. */
export interface ImportOptions extends OutputOptions {
  readonly name: string;
  readonly namespace: string;
  readonly size: string;
  readonly storageClass?: string;
  readonly accessMode?: readonly string[];
  readonly checksum?: string;
  readonly secret?: string;
  readonly certConfigMap?: string;
  readonly header?: readonly string[];
  readonly secretHeader?: readonly string[];
  readonly insecureSkipVerify?: boolean;
  readonly pvc?: boolean;
  readonly waitForConsumer?: boolean;
  readonly wait?: boolean;
}

/** Starts an import through Temporal and, unless told otherwise, shows it to its end. */
export async function runImport(url: string, options: ImportOptions): Promise<void> {
  await withTemporal(async (client) => {
    const handle = await startImport(client, manifestOf(url, options));
    const { workflowId, runId } = handle;
    const name = `import of ${options.namespace}/${options.name}`;
    if (options.wait === false) {
      return options.output === 'json'
        ? printJson({ workflowId, runId })
        : print(`started ${workflowId} (run ${runId})`);
    }
    try {
      const result = await follow(handle.result(), () => handle.status(), viewOf(options), name);
      if (options.output === 'json') printJson({ workflowId, runId, ...result });
      else print(resultText(result));
    } catch (error) {
      if (options.output === 'json') printJson({ workflowId, runId, failure: (await judge(error)).message });
      throw error;
    }
  });
}

/** Where progress goes: the result's own stream, or the terminal beside a JSON document. */
export function viewOf({ output }: OutputOptions): View {
  if (output !== 'json') return createView(process.stdout);
  return process.stderr.isTTY ? createView(process.stderr) : SILENT;
}

/** Who types this command waits for a disk, not for a pod that would use it. */
const AT_ONCE = { 'cdi.kubevirt.io/storage.bind.immediate.requested': 'true' };

/** The manifest that a user would have written for these options. */
export function manifestOf(url: string, options: ImportOptions): DataVolumeManifest {
  const { name, namespace, size, storageClass, accessMode, pvc, waitForConsumer } = options;
  const accessModes = accessMode ?? (pvc ? ['ReadWriteOnce'] : undefined);
  const claim = {
    ...(accessModes ? { accessModes } : {}),
    resources: { requests: { storage: size } },
    ...(storageClass ? { storageClassName: storageClass } : {}),
  };
  return {
    apiVersion: 'cdi.kubevirt.io/v1beta1',
    kind: 'DataVolume',
    metadata: { name, namespace, ...(waitForConsumer ? {} : { annotations: AT_ONCE }) },
    spec: { source: { http: sourceOf(url, options) }, [pvc ? 'pvc' : 'storage']: claim },
  };
}

function sourceOf(url: string, options: ImportOptions) {
  const { checksum, secret, certConfigMap, header, secretHeader, insecureSkipVerify } = options;
  return {
    url,
    ...(checksum ? { checksum } : {}),
    ...(secret ? { secretRef: secret } : {}),
    ...(certConfigMap ? { certConfigMap } : {}),
    ...(header ? { extraHeaders: header } : {}),
    ...(secretHeader ? { secretExtraHeaders: secretHeader } : {}),
    ...(insecureSkipVerify ? { insecureSkipVerify } : {}),
  };
}

/** What came of an import, in words. */
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
