import { createDisposables } from '../disposables.js';
import type { ContentType, ImageFacts, ImageFormat } from '../types.js';
import { FOOTER_BYTES } from './formats/foreign/vhd.js';
import { countAllocated } from './formats/qcow2/allocated.js';
import { readL1 } from './formats/qcow2/tables.js';
import { mayBecomeVhd, openImage, type OpenedImage } from './open-image.js';
import { planRead } from './read-plan.js';
import { scratchRequired } from './refusals.js';
import { assertFits, largerPvcRequired, type TargetSize } from './size.js';
import { boundedBy, isAsLongAsAnnounced } from './source/bounded.js';
import { isContradiction } from './source/http-failures.js';
import { RangesLostError, type ImageSource } from './source/types.js';
import { withoutRanges } from './source/without-ranges.js';
import { verifying } from './verify/verifying-source.js';

/** An L1 table of this size is looked at before anything is allocated; a larger one when the disk is read. In bytes. */
const EARLY_L1_BYTES = 512 * 1024;

/** What the plan depends on besides the source. */
export interface PlanOptions {
  /** `algorithm:hex` that the source as served must have. */
  readonly checksum?: string | undefined;
  /** @default 'kubevirt' */
  readonly contentType?: ContentType | undefined;
  /** See `openImage`. */
  readonly format?: ImageFormat | undefined;
  /** See `ConvertJob`. */
  readonly verbatim?: boolean | undefined;
  /** Refuse an image larger than this target. */
  readonly target?: TargetSize | undefined;
  /** There is scratch space; without it a plan that needs some is refused. */
  readonly scratch: boolean;
  /** The first bytes of the disk, if it holds the source byte for byte; see `verifying`. */
  readonly beginning?: ((bytes: number) => AsyncIterable<Buffer>) | undefined;
  /** Count what a qcow2 occupies, if that takes little reading. */
  readonly allocated?: boolean;
}

/** An opened image, the plan for it, and the source that the plan reads. Disposing of it disposes of the opened image. */
export interface PlannedImage extends Disposable {
  readonly opened: OpenedImage;
  readonly facts: ImageFacts;
  /** What {@link OpenedImage.view} is made of: the source as given, verified where there is a checksum. */
  readonly root: ImageSource;
  /** The end of the stream proves all of its bytes by a digest that was known beforehand. */
  readonly verified: boolean;
}

/**
 * Decides by the first bytes what an image is and how it is read. Nothing is allocated before this has succeeded.
 * @throws {@link FailureType} `ImageInvalid`, `ImageHostile`, `UnsupportedFormat`, `ScratchSpaceRequired`, `LargerPVCRequired`,
 * `ContentTypeNotSupported`
 */
export async function planImage(source: ImageSource, options: PlanOptions): Promise<PlannedImage> {
  const { beginning } = options;
  if (options.verbatim) return await planVolume(source, options);
  const outside = await source.probe();
  // a source that knows its own digests verifies them itself
  const checksum = source.verifiesItself ? undefined : options.checksum;
  const mayBeEndless = !outside.ranges && !isAsLongAsAnnounced(outside);
  const bounded = options.target && mayBeEndless ? boundedBy(source, options.target) : source;
  const root = checksum ? verifying(bounded, { checksum, ...(beginning ? { beginning } : {}) }) : bounded;
  const opened = await openChecked(root, options).catch(undefinedIfRangesAreLost);
  if (opened === undefined) return await planImage(withoutRanges(source), options);
  using unplanned = createDisposables();
  unplanned.use(opened);
  const virtualSize = virtualSizeOf(opened);
  const plan = planRead(opened, {
    verified: checksum !== undefined,
    tablesByRange:
      outside.ranges && opened.containers.length === 0 && outside.validators.length !== undefined,
  });
  if (plan.scratch !== undefined && !options.scratch) throw scratchRequired(plan.scratch);
  const allocatedBytes = options.allocated ? await countAllocated(opened) : undefined;
  const planned = unplanned.move();
  return {
    opened,
    root,
    verified: checksum !== undefined || source.verifiesItself === true,
    [Symbol.dispose]: () => planned[Symbol.dispose](),
    facts: {
      displayUrl: outside.displayUrl,
      format: opened.format,
      containers: opened.containers,
      ...(virtualSize === undefined ? {} : { virtualSize }),
      ...(allocatedBytes === undefined ? {} : { allocatedBytes }),
      validators: outside.validators,
      ranges: outside.ranges,
      ...plan,
    },
  };
}

/** {@link planImage}; a source whose answers contradict each other is asked once more, in one answer. */
export async function planSteadily(source: ImageSource, options: PlanOptions): Promise<PlannedImage> {
  try {
    return await planImage(source, options);
  } catch (error) {
    if (!isContradiction(error) || !source.inOneAnswer) throw error;
    return await planImage(source.inOneAnswer(), options);
  }
}

/** The disk of a volume is what it is: a guest may write the magic number of a compressor to its first sector. */
async function planVolume(source: ImageSource, { target }: PlanOptions): Promise<PlannedImage> {
  const facts = await source.probe();
  const { displayUrl, validators } = facts;
  const virtualSize = validators.length ?? 0;
  if (target) assertFits(virtualSize, target);
  const reason = 'the disk of a volume is copied by its extents; no scratch space is needed';
  return {
    opened: { containers: [], format: 'raw', view: source, facts, [Symbol.dispose]: () => undefined },
    root: source,
    verified: false,
    [Symbol.dispose]: () => undefined,
    facts: {
      displayUrl,
      format: 'raw',
      containers: [],
      virtualSize,
      validators,
      ranges: true,
      plan: 'ranged',
      resume: 'exact',
      reason,
    },
  };
}

/** The image, if it fits its target and its first table is in order. */
async function openChecked(root: ImageSource, options: PlanOptions): Promise<OpenedImage> {
  using unchecked = createDisposables();
  const opened = unchecked.use(await openImage(root, options));
  if (options.target) assertImageFits(opened, options.target);
  await checkTables(opened);
  unchecked.move();
  return opened;
}

/** Refuses what is too large for certain; a footer that is not seen yet is none of the disk, and whoever copies it judges the rest. */
function assertImageFits(opened: OpenedImage, target: TargetSize): void {
  const virtualSize = virtualSizeOf(opened);
  if (virtualSize === undefined) return;
  const least = mayBecomeVhd(opened) ? virtualSize - FOOTER_BYTES : virtualSize;
  if (least > target.usableBytes) throw largerPvcRequired(`${virtualSize}`, virtualSize, target);
}

/** Size the guest sees, as far as it is known beforehand; a compressed raw disk tells it at its end. */
function virtualSizeOf({ format, qcow2, foreign, facts }: OpenedImage): number | undefined {
  if (qcow2) return qcow2.virtualSize;
  if (foreign) return foreign.virtualSize;
  return format === 'raw' ? facts.validators.length : undefined;
}

/** A server that has answered ranges, and does no longer while tables and indexes are looked at, is read in order. */
function undefinedIfRangesAreLost(error: unknown): undefined {
  if (!(error instanceof RangesLostError)) throw error;
}

/** Reads the first table of a qcow2 behind ranges, to refuse it early. */
async function checkTables({ qcow2, view, facts }: OpenedImage): Promise<void> {
  if (!qcow2 || !facts.ranges || qcow2.l1Entries * 8 > EARLY_L1_BYTES) return;
  await readL1(qcow2, view, facts.validators.length);
}
