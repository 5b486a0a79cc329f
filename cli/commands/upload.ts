import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { withoutEnd } from '../../activities/without-end.js';
import { loadKubernetes, stackInUse } from '../connections.js';
import { CliError, EXIT } from '../errors.js';
import { uploadManifestOf, type UploadManifestOptions } from '../manifest.js';
import { print, printJson, tellingFailure, type OutputOptions } from '../output.js';
import { bytes, span } from '../render/figures.js';
import { openUploadCluster } from '../upload/cluster.js';
import { openSourceFile, type SourceFile } from '../upload/source-file.js';
import { createUploadView, type UploadView } from '../upload/view.js';

/** Options of `dvflow upload`. */
export interface UploadOptions extends Omit<UploadManifestOptions, 'name' | 'size'>, OutputOptions {
  readonly dv: string;
  readonly size?: string;
  readonly create?: boolean;
  /** `algorithm:hex`, or an algorithm by which the file is read beforehand. */
  readonly checksum?: string;
  readonly uploadproxyUrl?: string;
  readonly caFile?: string;
  readonly insecure?: boolean;
}

const SILENT: UploadView = { show: () => undefined, say: () => undefined, end: () => undefined };
/** How long after the first signal another one ends the program at once, in ms: npx hands each one on that the terminal has sent too. */
const SECOND_SIGNAL_MS = 1_000;
const ALGORITHM = /^(?:md5|sha1|sha256|sha512)$/;

/**
 * Uploads a file into a DataVolume, which is created unless it is there. Whatever breaks is gone on with; Ctrl-C keeps what has
 * arrived, and the same command goes on.
 */
export async function runUpload(file: string, options: UploadOptions): Promise<void> {
  await tellingFailure(options.output === 'json', () => upload(file, options));
}

async function upload(file: string, options: UploadOptions): Promise<void> {
  const source = await openSourceFile(resolve(file));
  try {
    await uploadFrom(source, file, options);
  } finally {
    await source.close();
  }
}

async function uploadFrom(source: SourceFile, file: string, options: UploadOptions): Promise<void> {
  const stopping = new AbortController();
  const { signal } = stopping;
  const release = (): unknown => process.off('SIGINT', interrupt).off('SIGTERM', interrupt);
  const interrupt = (): void => {
    stopping.abort(new CliError('interrupted: the same command goes on where the disk is', 130));
    setTimeout(release, SECOND_SIGNAL_MS).unref();
  };
  const view = options.output === 'json' ? SILENT : await createUploadView(process.stderr);
  const began = performance.now();
  // not `once`: what tus-js-client brings along would find itself alone with the signal, and end the program by it
  process.on('SIGINT', interrupt).on('SIGTERM', interrupt);
  try {
    const { dv: name, namespace } = options;
    const cluster = await openUploadCluster(await loadKubernetes(), { namespace, name, signal });
    const { fill } = await import('../upload/fill.js');
    const filled = await fill({
      cluster,
      source,
      manifest: manifestOf(options),
      checksum: async () => await checksumOf(source, options.checksum, { view, signal }),
      endpoint: async () =>
        endpointOf(options.uploadproxyUrl ?? (await cluster.proxyUrl((text) => view.say(text)))),
      ...(await trust(options)),
      stateDirectory: stateDirectory(),
      view,
      signal,
    });
    view.end();
    if (options.output === 'json') return printJson({ namespace, name, ...filled });
    const again =
      filled.resumed || filled.retries > 0 ? `, ${bytes(filled.bytesSent)} sent with what was repeated` : '';
    print(
      `claim ${namespace}/${name} holds ${file}: ${bytes(filled.bytes)} in ${span(performance.now() - began)}${again}`,
    );
  } finally {
    view.end();
    // the second one of a pair may come while the program ends
    if (!signal.aborted) release();
  }
}

function manifestOf(options: UploadOptions): object | undefined {
  const { dv: name, size, create } = options;
  if (create === false) return undefined;
  if (size === undefined)
    throw new CliError('--size is needed for a DataVolume that is created (else --no-create)', EXIT.usage);
  return uploadManifestOf({ ...options, name, size });
}

function endpointOf(url: string): string {
  const base = url.includes('://') ? url : `https://${url}`;
  return `${withoutEnd(base, '/')}/tus/uploads`;
}

/** The local stack's own authority is nobody's but its user's. */
async function trust({
  caFile,
  insecure,
}: UploadOptions): Promise<{ readonly ca?: string; readonly insecure?: boolean }> {
  if (insecure) return { insecure };
  if (caFile !== undefined) return { ca: readFileSync(caFile, 'utf8') };
  const stack = await stackInUse();
  if (!stack) return {};
  const { gatewayAuthority } = await import('../../local/gateway.js');
  return { ca: gatewayAuthority(stack.directory) };
}

async function checksumOf(
  source: SourceFile,
  wanted: string | undefined,
  { view, signal }: { readonly view: UploadView; readonly signal: AbortSignal },
): Promise<string | undefined> {
  if (wanted === undefined || !ALGORITHM.test(wanted)) return wanted;
  view.say(`reading ${source.path} for its ${wanted}`);
  const hash = createHash(wanted);
  for await (const piece of source.pieces(0, source.size)) {
    signal.throwIfAborted();
    hash.update(piece);
  }
  return `${wanted}:${hash.digest('hex')}`;
}

function stateDirectory(): string {
  return join(process.env.XDG_STATE_HOME || join(homedir(), '.local', 'state'), 'dvflow', 'uploads');
}
