import type { ContentType, Container, ImageFormat } from '../types.js';
import { createDisposables, type Disposables } from '../disposables.js';
import { failureTypeOf, permanentFailure } from '../failures.js';
import { beginsTar } from './archive/tar-header.js';
import type { ForeignImage } from './formats/foreign/types.js';
import { findFixedVhd, isEndUnseen, mayBeFixedVhd } from './formats/foreign/vhd.js';
import { parseHeader, type Qcow2Header } from './formats/qcow2/header.js';
import { openLayer, type Layer } from './layers/open-layer.js';
import { identify } from './magic.js';
import { unsupported } from './refusals.js';
import type { ImageSource, SourceFacts } from './source/types.js';
import { withoutRanges } from './source/without-ranges.js';

/** Containers around each other that are opened. */
const MAX_DEPTH = 4;

/** How a source is looked into. */
export interface OpenOptions {
  /** @default 'kubevirt' */
  readonly contentType?: ContentType | undefined;
  /**
   * The only format that is accepted; `raw` takes what is inside all containers as it is, whatever it looks like. For `vhd` a raw disk
   * passes whose {@link OpenedImage.endUnseen}.
   */
  readonly format?: ImageFormat | undefined;
}

/** An image with everything around it taken off. Disposing of it ends what was begun inside containers, and leaves the source open. */
export interface OpenedImage extends Disposable {
  /** Outermost first. */
  readonly containers: readonly Container[];
  readonly format: ImageFormat;
  /** The bytes inside all containers, and what is known of them. */
  readonly view: ImageSource;
  readonly facts: SourceFacts;
  readonly qcow2?: Qcow2Header;
  /** Absent for a foreign format whose tables cannot be reached without {@link OpenedImage.unreached}. */
  readonly foreign?: ForeignImage;
  /** What of a foreign format cannot be looked at because the source has no ranges. */
  readonly unreached?: string;
  /** The end of a raw disk cannot be looked at because the source has no ranges: it may be the footer of a fixed VHD. */
  readonly endUnseen?: boolean;
}

/**
 * Takes the containers off a source, one after another, until an image is found; magic numbers decide, never a name.
 * @throws {@link FailureType} `ImageInvalid`, `ImageHostile`, `UnsupportedFormat`, `ContentTypeNotSupported`
 */
export async function openImage(source: ImageSource, options: OpenOptions = {}): Promise<OpenedImage> {
  using layers = createDisposables();
  const found = await findImage(source, options, layers);
  const kept = layers.move();
  return { ...found, [Symbol.dispose]: () => kept[Symbol.dispose]() };
}

type FoundImage = Omit<OpenedImage, keyof Disposable>;

/** Each layer that is opened on the way is left in `layers`. */
async function findImage(
  source: ImageSource,
  options: OpenOptions,
  layers: Disposables,
): Promise<FoundImage> {
  const archive = options.contentType === 'archive';
  let view = source;
  let facts = await source.probe();
  const containers: Container[] = [...(facts.containers ?? [])];
  for (const depth = containers.length; ;) {
    const where = inside(containers);
    const identity = identify(facts.head, where, options.format);
    const inner = 'container' in identity ? identity.container : identity.format;
    if (archive && (inner === 'tar' || (inner === 'raw' && beginsTar(facts.head))))
      return { containers, format: 'tar', view, facts };
    if ('format' in identity) {
      if (archive) throw notAnArchive(where, identity.format);
      if (options.format === 'raw') return { containers, format: 'raw', view, facts };
      const image = await openFormat(identity.format, { containers, view, facts });
      if (options.format && !mayBe(image, options.format))
        throw otherFormat(containers, image.format, options.format);
      return image;
    }
    if (containers.length - depth >= MAX_DEPTH)
      throw unsupported(`source has more than ${MAX_DEPTH} containers around each other`);
    if (archive && identity.container === 'zip') throw notAnArchive(where, 'zip');
    const outer = facts.provedInOrder ? withoutRanges(view) : view;
    view = layers.adopt(await openLayer(identity.container as Layer, outer), (layer) => layer.close());
    containers.push(identity.container);
    facts = await view.probe();
  }
}

/** What an image must be that may turn out to be a fixed VHD is for whoever reads it to judge. */
function mayBe(image: FoundImage, expected: ImageFormat): boolean {
  return image.format === expected || (expected === 'vhd' && mayBecomeVhd(image));
}

/** Whether an image may turn out to be a fixed VHD when its end is read. */
export function mayBecomeVhd({ endUnseen, facts }: Pick<OpenedImage, 'endUnseen' | 'facts'>): boolean {
  const { length } = facts.validators;
  return endUnseen === true && (length === undefined || mayBeFixedVhd(length));
}

/** `UnsupportedFormat`: an image is not what was asked for. */
export function otherFormat(
  containers: readonly Container[],
  found: ImageFormat,
  expected: ImageFormat,
): Error {
  return unsupported(`${inside(containers)} is ${found}, ${expected} was expected`);
}

/** Where an image lies, for messages. */
function inside(containers: readonly Container[]): string {
  return containers.length === 0 ? 'source' : `content of the ${containers.at(-1)}`;
}

type Peeled = Pick<OpenedImage, 'containers' | 'view' | 'facts'>;

async function openFormat(format: ImageFormat, peeled: Peeled): Promise<FoundImage> {
  const { view, facts } = peeled;
  if (format === 'qcow2')
    return { ...peeled, format, qcow2: parseHeader(facts.head, facts.validators.length) };
  if (format === 'raw' || format === 'tar') return await openRaw(peeled);
  try {
    const { parseForeign } = await import('./formats/foreign/parse.js');
    return { ...peeled, format, foreign: await parseForeign(format, view, facts) };
  } catch (error) {
    if (failureTypeOf(error) !== 'ScratchSpaceRequired') throw error;
    return { ...peeled, format, unreached: (error as Error).message };
  }
}

/** Everything unknown is a raw disk; but a VHD of fixed size shows only by its last bytes. */
async function openRaw(peeled: Peeled): Promise<FoundImage> {
  const { view, facts } = peeled;
  const vhd = await findFixedVhd(view, facts);
  if (vhd) return { ...peeled, format: 'vhd', foreign: vhd };
  return { ...peeled, format: 'raw', endUnseen: isEndUnseen(facts) };
}

function notAnArchive(where: string, found: ImageFormat | Container): Error {
  return permanentFailure(
    'ContentTypeNotSupported',
    `contentType is archive, but ${where} is ${found}: an archive is a tar, plain or in gz, xz or zst`,
  );
}
