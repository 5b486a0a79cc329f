import type { Compression, ImageFacts, ImageFormat } from '../types.js';
import { decompressHead } from './decompress/head.js';
import { parseHeader, type Qcow2Header } from './formats/qcow2/header.js';
import { readL1 } from './formats/qcow2/tables.js';
import { identify } from './magic.js';
import { planRead } from './read-plan.js';
import { unsupported } from './refusals.js';
import { assertFits, type TargetSize } from './size.js';
import { RangesLostError, type ImageSource, type SourceFacts } from './source/types.js';

/** Compressors around each other that are unpacked. */
const MAX_DEPTH = 3;
/** Decompressed bytes looked at: a qcow2 header of the largest cluster size fits. */
const HEAD_LIMIT = 2 * 1024 * 1024;

/** What the plan depends on besides the source. */
export interface PlanOptions {
  /** The source will be hashed as served. */
  readonly checksum: boolean;
  /** Refuse an image larger than this target. */
  readonly target?: TargetSize;
}

/** A source's layers, and the header of the image inside. */
export interface Layers {
  readonly compression: readonly Compression[];
  readonly format: ImageFormat;
  readonly qcow2?: Qcow2Header;
}

/**
 * Decides by the first bytes what an image is and how it is read. Nothing is allocated before this has succeeded.
 * @throws {@link FailureType} `ImageInvalid`, `ImageHostile`, `UnsupportedFormat`, `ScratchSpaceRequired`, `LargerPVCRequired`
 */
export async function planImage(
  facts: SourceFacts,
  source: ImageSource,
  options: PlanOptions,
): Promise<ImageFacts> {
  const layers = await peel(facts);
  const plain = layers.compression.length === 0;
  const rawSize = plain && layers.format === 'raw' ? facts.validators.length : undefined;
  const virtualSize = layers.qcow2?.virtualSize ?? rawSize;
  if (virtualSize !== undefined && options.target) assertFits(virtualSize, options.target);
  const ranges = facts.ranges && (await checkTables(layers, facts, source));
  return {
    displayUrl: facts.displayUrl,
    format: layers.format,
    compression: layers.compression,
    ...(virtualSize === undefined ? {} : { virtualSize }),
    validators: facts.validators,
    ranges,
    ...planRead(layers, { ...facts, ranges }, options.checksum),
  };
}

/** Reads the first table of a plain qcow2, to refuse it early; false where the server does not answer ranges after all. */
async function checkTables(
  { compression, qcow2 }: Layers,
  facts: SourceFacts,
  source: ImageSource,
): Promise<boolean> {
  if (!qcow2 || compression.length > 0) return true;
  try {
    await readL1(qcow2, source, facts.validators.length);
    return true;
  } catch (error) {
    if (error instanceof RangesLostError) return false;
    throw error;
  }
}

/** Takes the compressors off the head, one after another, until an image is found. */
async function peel(facts: SourceFacts): Promise<Layers> {
  const compression: Compression[] = [];
  let inner = { head: facts.head, whole: facts.validators.length === facts.head.length };
  for (;;) {
    const where = compression.length === 0 ? 'source' : `content of the ${compression.at(-1)} stream`;
    const identity = identify(inner.head, where);
    if ('format' in identity) {
      if (identity.format === 'raw') return { compression, format: 'raw' };
      const fileBytes = compression.length === 0 ? facts.validators.length : undefined;
      return { compression, format: 'qcow2', qcow2: parseHeader(inner.head, fileBytes) };
    }
    if (compression.length === MAX_DEPTH)
      throw unsupported(`source has more than ${MAX_DEPTH} compressors around each other`);
    compression.push(identity.compression);
    inner = await decompressHead(inner.head, identity.compression, { limit: HEAD_LIMIT, whole: inner.whole });
  }
}
