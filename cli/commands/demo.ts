import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { styleText } from 'node:util';
import { refuseForeign } from '../../local/environment.js';
import { stackDown, stackUp } from '../../local/index.js';
import { runKubectl } from '../../local/kubectl.js';
import type { StackInfo } from '../../local/types.js';
import { runningStack, withTemporal } from '../connections.js';
import { makeDisk, type DemoDisk } from '../demo/disk.js';
import { compareDisk, readPublished } from '../demo/result.js';
import { DEMO_NAMESPACE, importBy, writeManifest, type DemoSource } from '../demo/run.js';
import { serveFile, type FileServer } from '../demo/server.js';
import { CliError, EXIT } from '../errors.js';
import { print } from '../output.js';
import { bytes, span } from '../render/figures.js';

/** Options of `dvflow demo`. */
export interface DemoOptions {
  readonly once?: boolean;
  readonly url?: string;
  readonly checksum?: string;
  readonly size: string;
}

/** Rate of the demo's web server, in bytes a second: a few seconds to watch. */
const SERVED_RATE = 6 * 1024 * 1024;

/** Imports a disk end to end: stack, source, DataVolume, progress, and the proof that the bytes are the same. */
export async function runDemo(options: DemoOptions): Promise<void> {
  if (options.checksum && options.url === undefined) throw new CliError('--checksum needs --url', EXIT.usage);
  refuseForeign('the demo');
  const started = Date.now();
  const before = await runningStack();
  title('Local stack');
  const stack = await stackUp({}, print);
  print(
    `Kubernetes and Temporal are up (${span(Date.now() - started)}${before ? ', they were running' : ''})`,
  );
  try {
    await withScratch((directory) => demonstrate(stack, directory, options));
  } finally {
    if (options.once && !before) await stackDown({}, print);
  }
  if (!options.once && !before) print('\nThe stack stays up; end it with: npx dvflow local down');
}

async function withScratch(work: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'dvflow-demo-'));
  try {
    await work(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function demonstrate(stack: StackInfo, directory: string, options: DemoOptions): Promise<void> {
  const made = options.url === undefined ? await makeSource(directory) : undefined;
  try {
    const source: DemoSource = made ?? { url: options.url ?? '', size: options.size, ...checksumOf(options) };
    const manifest = await writeManifest(directory, source);
    title('DataVolume');
    print(`${manifest.text}\n$ kubectl create -f ${manifest.name}.yaml`);
    const began = Date.now();
    const run = await withTemporal((client) => importBy(stack, client, manifest), stack);
    print(`Succeeded after ${span(Date.now() - began)}`);
    await showResult(stack, manifest.name, made?.disk);
    showOtherWays(stack, run);
  } finally {
    await made?.server.close();
  }
}

function checksumOf({ checksum }: DemoOptions): { checksum?: string } {
  return checksum === undefined ? {} : { checksum };
}

async function makeSource(directory: string): Promise<DemoSource & { disk: DemoDisk; server: FileServer }> {
  title('Source');
  const disk = await makeDisk(directory);
  print(
    `ext4 file system with ${disk.files} files, ${bytes(disk.virtualSize)}, as qcow2 in xz: ${bytes(disk.fileBytes)}`,
  );
  const server = await serveFile(disk.path, SERVED_RATE);
  print(`served at ${server.url} with ${bytes(SERVED_RATE)}/s`);
  return { disk, server, url: server.url, size: `${disk.virtualSize / 1024 ** 2}Mi` };
}

async function showResult(stack: StackInfo, name: string, disk: DemoDisk | undefined): Promise<void> {
  title('Result');
  const { claim, phase, volume, capacity, node, file } = await readPublished(stack, DEMO_NAMESPACE, name);
  print(`claim    ${claim} is ${phase}`);
  print(`volume   ${volume}, ${capacity} on node ${node}`);
  for (const line of await compareDisk(file, disk)) print(line);
  print(`\n$ kubectl get dv,pvc,pv -n ${DEMO_NAMESPACE}`);
  print((await runKubectl(stack.kubectl, ['get', 'dv,pvc,pv', '-n', DEMO_NAMESPACE])).trimEnd());
}

function showOtherWays(stack: StackInfo, run: { workflowId: string; runId: string }): void {
  title('The same by hand, with an image of yours');
  const yours = '--name my-disk --size 10Gi --storage-class hostpath-provisioner';
  print('eval "$(npx dvflow local env)"');
  print(`${stack.kubectl.join(' ')} create -f deploy/examples/import-http.yaml`);
  print(`npx dvflow import https://images.example.com/disk.qcow2 ${yours}`);
  title('This run in the Temporal UI');
  const workflow = `${encodeURIComponent(run.workflowId)}/${run.runId}`;
  print(`${stack.uiUrl}/namespaces/default/workflows/${workflow}/history`);
}

function title(text: string): void {
  print(`\n${styleText('bold', `== ${text}`, { stream: process.stdout })}`);
}
