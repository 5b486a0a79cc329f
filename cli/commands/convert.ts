import { monitorEventLoopDelay } from 'node:perf_hooks';
import { failureTypeOf } from '../../activities/failures.js';
import { assertContentType } from '../../activities/image/content-type.js';
import type { ConvertJob } from '../../activities/image/convert-job.js';
import { convertImage } from '../../activities/image/convert.js';
import { FencedError } from '../../activities/image/resume-record.js';
import { openSource } from '../../activities/image/source/open-source.js';
import {
  openLocalDirectory,
  openLocalTarget,
  type LocalTarget,
} from '../../activities/image/target/local-target.js';
import type { ContentType, FailureType, ImageFormat, TransferResult } from '../../activities/types.js';
import { printReport, reportOf } from '../convert-report.js';
import { openConversionState, type ConversionKey, type ConversionState } from '../conversion-state.js';
import { sha256OfDisk } from '../disk-digest.js';
import { CliError } from '../errors.js';
import { callerPolicy, refuseSame, sourceRequest, type SourceFlags } from '../local-source.js';
import { sourceIdentity } from '../source-identity.js';
import { printJson } from '../output.js';
import { createTransferView } from '../render/transfer.js';

/** What `dvflow convert` was asked for. */
export interface ConvertFlags extends SourceFlags {
  readonly json?: boolean;
  readonly scratch?: string;
  readonly format?: ImageFormat;
  readonly sha256OfDisk?: boolean;
  readonly state?: string;
  readonly contentType?: ContentType;
}

const LOOP_RESOLUTION_MS = 10;

/**
 * Converts an image into a raw disk in a file or on a block device of this machine. Ctrl-C keeps what is durable: the same command
 * goes on from there.
 */
export async function runConvert(address: string, path: string, flags: ConvertFlags): Promise<void> {
  const loop = monitorEventLoopDelay({ resolution: LOOP_RESOLUTION_MS });
  loop.enable();
  const started = performance.now();
  const stopping = new AbortController();
  const interrupt = (): void => stopping.abort(new CliError('interrupted: the same command goes on', 130));
  process.once('SIGINT', interrupt).once('SIGTERM', interrupt);
  const view = await createTransferView(process.stderr, flags.json === true);
  const request = await sourceRequest(address, flags, process.env);
  assertContentType(request.kind, flags.contentType);
  await refuseSame(request, path);
  const source = await openSource(request, {
    policy: callerPolicy(flags),
    signal: stopping.signal,
    notice: (message) => view.notice(message),
  });
  try {
    const asked = source.probe();
    asked.catch(() => undefined);
    const { result, digest } = await convertInto(path, flags, {
      source,
      asked,
      sourceId: sourceIdentity(request),
      notice: (message) => view.notice(message),
      ...(request.checksum === undefined ? {} : { checksum: request.checksum }),
      signal: stopping.signal,
      onProgress: (progress) => view.show(progress),
    });
    view.end();
    const report = reportOf(result, { started, digest, maxLoopDelayMs: loop.max / 1e6 - LOOP_RESOLUTION_MS });
    if (flags.json) printJson(report);
    else printReport(path, report);
  } finally {
    view.end();
    source.close();
    process.off('SIGINT', interrupt).off('SIGTERM', interrupt);
  }
}

interface Conversion extends Pick<ConvertJob, 'source' | 'checksum' | 'signal' | 'onProgress'> {
  /** The source is asked what it is while the target is opened. */
  readonly asked: Promise<unknown>;
  /** Which source it is. */
  readonly sourceId: string;
  readonly notice: (message: string) => void;
}

/** What has become of it; with the digest that was asked for. */
interface Converted {
  readonly result: TransferResult;
  readonly digest?: string;
}

async function convertInto(path: string, flags: ConvertFlags, conversion: Conversion): Promise<Converted> {
  if (flags.contentType === 'archive') return { result: await unpackInto(path, flags, conversion) };
  await using target = await openLocalTarget(path);
  const result = await fillTarget({ path, target }, flags, conversion);
  if (!flags.sha256OfDisk) return { result };
  // what was written, whatever has the path by now
  const written = `/proc/self/fd/${target.file.fd}`;
  return { result, digest: await sha256OfDisk(written, result, conversion.signal) };
}

async function fillTarget(
  { path, target }: { readonly path: string; readonly target: LocalTarget },
  flags: ConvertFlags,
  { asked, sourceId, notice, ...conversion }: Conversion,
): Promise<TransferResult> {
  const state = await openState(target, { target: path, named: flags.state, source: sourceId });
  try {
    const { fence } = await state.begin(notice);
    await asked;
    const result = await convertImage({
      ...conversion,
      target: target.file,
      size: sizeOf(path, target),
      preallocation: false,
      ...(flags.scratch === undefined ? {} : { scratch: flags.scratch }),
      ...(flags.format === undefined ? {} : { format: flags.format }),
      records: state.records,
      fence: fence + 1,
      attempt: 1,
    });
    await target.refuseMoved();
    await state.remove();
    return result;
  } catch (error) {
    if (await leave(target, state, error))
      notice(
        'what was written stays: the same command goes on, also with another signature or other credentials',
      );
    throw error;
  }
}

async function unpackInto(
  path: string,
  flags: ConvertFlags,
  { asked, sourceId, notice, ...conversion }: Conversion,
): Promise<TransferResult> {
  const { unpackImage } = await import('../../activities/image/unpack-image.js');
  await using target = await openLocalDirectory(path);
  const { handle: directory, identity } = target;
  const state = await openState(target, { target: path, named: flags.state, source: sourceId });
  try {
    const { directory: begun, ...record } = await state.begin(notice);
    await target.refuseFilled(begun);
    await state.records.save({ ...record, directory: identity });
    await asked;
    const size = { claimName: path, usableBytes: Number.MAX_SAFE_INTEGER };
    const { records } = state;
    return await unpackImage({
      ...conversion,
      directory,
      size,
      records,
      fence: record.fence + 1,
      attempt: 1,
    }).catch(async (error: unknown) => {
      // files of an archive cannot be gone on with: nothing is worth keeping
      const { emptyVolume } = await import('../../activities/image/archive/unpack-empty.js');
      const { dev: device } = await directory.stat({ bigint: true });
      await emptyVolume(directory, { device }).catch(() => undefined);
      throw error;
    });
  } catch (error) {
    await target.discard();
    throw error;
  } finally {
    await state.remove();
  }
}

/** The state of a conversion; where there is no place for it, what was made for the target goes again. */
async function openState(target: Pick<LocalTarget, 'discard'>, key: ConversionKey): Promise<ConversionState> {
  return await openConversionState(key).catch(async (error: unknown) => {
    await target.discard();
    throw error;
  });
}

/** A file becomes as large as the disk, a device has its size. */
function sizeOf(path: string, { file }: LocalTarget): ConvertJob['size'] {
  const { deviceBytes } = file;
  return deviceBytes === undefined
    ? { claimName: path, usableBytes: Number.MAX_SAFE_INTEGER, fit: true }
    : { claimName: path, usableBytes: deviceBytes };
}

/** What ends a source in the middle of it, as where its signature expires; the next one may be for the same file. */
const WITHDRAWN: readonly (FailureType | undefined)[] = [
  'SourceForbidden',
  'SourceNotFound',
  'SourceCertificateInvalid',
];

/**
 * What no other try can cure leaves nothing behind; what was interrupted can be gone on with. True where that needs another access
 * to the source.
 */
async function leave(target: LocalTarget, state: ConversionState, error: unknown): Promise<boolean> {
  // it is somebody else's state by now
  if (error instanceof FencedError) return false;
  // a slip in the address must not cost what was begun
  if (await state.isOfAnother()) {
    await target.discard();
    return false;
  }
  const isFinal = (error as { nonRetryable?: boolean | null }).nonRetryable === true;
  const isWithdrawn = WITHDRAWN.includes(failureTypeOf(error));
  const { durable } = await state.records.load();
  if (durable && durable.completed > 0 && (!isFinal || isWithdrawn)) return isFinal;
  await state.remove();
  await target.discard();
  return false;
}
