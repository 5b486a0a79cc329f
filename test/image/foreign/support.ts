import assert from 'node:assert/strict';
import { closeSync, constants, ftruncateSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { copyForeign } from '../../../activities/image/formats/foreign/convert.js';
import { parseForeign } from '../../../activities/image/formats/foreign/parse.js';
import type { Stretch } from '../../../activities/image/source/types.js';
import type { ForeignFormat, ForeignImage } from '../../../activities/image/formats/foreign/types.js';
import type { Sandbox } from '../../../activities/image/sandbox/sandbox.js';
import { createSparseWriter } from '../../../activities/image/writer.js';
import { createFileSource, type FileSourceOptions } from '../support/file-source.js';
import { MIB, qemuImg, qemuIo } from '../support/images.js';
import { refusal } from '../support/refused.js';

/** What a test varies of a copy. */
export interface CopyOptions extends FileSourceOptions {
  /** Offset of an earlier attempt, below which all is durable. */
  readonly completed?: number;
  readonly signal?: AbortSignal;
  readonly stallMs?: number;
  readonly silentSeconds?: number;
  /** The target's bytes. @default 256 MiB */
  readonly mostBytes?: number;
  readonly sandbox?: Sandbox;
  /** Every how many pieces a record is due. @default never */
  readonly recordEvery?: number;
  /** Told of each offset that is written. */
  readonly onCheckpoint?: (completed: number) => void;
}

export interface Copied {
  readonly image: ForeignImage;
  /** Offsets that were made durable. */
  readonly durable: number[];
  /** Of the source, those of its probe and of the header checks included. */
  readonly bytesRead: number;
}

/** Checks the headers of a local file. */
export async function parseFile(
  format: ForeignFormat,
  path: string,
  options: FileSourceOptions = {},
): Promise<ForeignImage> {
  const source = createFileSource(path, options);
  try {
    return await parseForeign(format, source, await source.probe());
  } finally {
    source.close();
  }
}

/** Where the disk of a local image may hold data, by its tables. */
export async function stretchesOf(
  format: ForeignFormat,
  path: string,
): Promise<readonly Stretch[] | undefined> {
  const source = createFileSource(path);
  try {
    const { stretches } = await parseForeign(format, source, await source.probe());
    return await stretches?.();
  } finally {
    source.close();
  }
}

/** Copies the disk of a local image into `target`; what was made durable before a failure is in `durable`, which is handed in. */
export async function copyFile(
  format: ForeignFormat,
  path: string,
  target: string,
  options: CopyOptions = {},
  durable: number[] = [],
): Promise<Copied> {
  const { O_RDWR, O_CREAT, O_DIRECT } = constants;
  const fd = openSync(target, O_RDWR | O_CREAT, 0o660);
  const directFd = openSync(target, O_RDWR | O_DIRECT);
  const source = createFileSource(path, options);
  const signal = options.signal ?? new AbortController().signal;
  let pieces = 0;
  try {
    const facts = await source.probe();
    const image = await parseForeign(format, source, facts);
    assert.ok(
      image.virtualSize <= (options.mostBytes ?? 256 * MIB),
      'a larger disk would be refused by its target',
    );
    ftruncateSync(fd, image.virtualSize);
    const writer = createSparseWriter({ fd, directFd }, signal);
    const { virtualSize } = await copyForeign(
      {
        image,
        source,
        fileBytes: facts.validators.length!,
        ...(options.stallMs === undefined ? {} : { stallMs: options.stallMs }),
        ...(options.silentSeconds === undefined ? {} : { silentSeconds: options.silentSeconds }),
        ...(options.sandbox === undefined ? {} : { sandbox: options.sandbox }),
      },
      {
        writer,
        diskBytes: image.virtualSize,
        existing: (options.completed ?? 0) > 0,
        completed: options.completed ?? 0,
        at: () => undefined,
        async checkpoint(completed, flush) {
          options.onCheckpoint?.(completed);
          if ((pieces += 1) % (options.recordEvery ?? Infinity) !== 0) return;
          await flush?.();
          durable.push(completed);
        },
        signal,
      },
    );
    assert.equal(virtualSize, image.virtualSize);
    return { image, durable, bytesRead: source.bytesRead };
  } finally {
    source.close();
    closeSync(fd);
    closeSync(directFd);
  }
}

/** Rejects for good, with this type and message. */
export async function assertRefused(work: Promise<unknown>, type: string, message: RegExp): Promise<void> {
  await assert.rejects(work, refusal(type, message));
}

/** An image of a kind, made by `qemu-img` of a raw file. */
export interface Kind {
  readonly name: string;
  readonly format: ForeignFormat;
  /** QEMU's name of the format. */
  readonly driver: string;
  readonly subformat: string;
  make(raw: string, path: string): void;
}

function converted(name: string, format: ForeignFormat, subformat: string, options: string): Kind {
  const driver = format === 'vhd' ? 'vpc' : format;
  return {
    name,
    format,
    driver,
    subformat,
    make: (raw, path) => void qemuImg('convert', '-f', 'raw', '-O', driver, '-o', options, raw, path),
  };
}

/** A stream as VMware exports it: where its directory is, a copy of the header at the end tells. */
export function appendFooter(path: string): void {
  const stream = readFileSync(path);
  const footer = Buffer.alloc(3 * 512);
  footer.writeBigUInt64LE(1n, 0);
  footer.writeUInt32LE(3, 12);
  stream.copy(footer, 512, 0, 512);
  stream.writeBigUInt64LE(2n ** 64n - 1n, 56);
  const padding = Buffer.alloc((512 - (stream.length % 512)) % 512);
  writeFileSync(path, Buffer.concat([stream, padding, footer]));
}

/** An image that was written to here and there, last things first. */
function worn(name: string, kind: Kind): Kind {
  return {
    ...kind,
    name,
    make(raw, path) {
      const size = readFileSync(raw).length;
      qemuImg('create', '-f', kind.driver, path, `${size}`);
      const commands = Array.from({ length: 40 }, (_, index) => {
        const offset = Math.floor(((39 - ((index * 17) % 40)) * (size - 70_000)) / 40 / 512) * 512;
        return `write -P ${index + 1} ${offset} ${512 * (1 + ((index * 37) % 130))}`;
      });
      qemuIo(path, kind.driver, ...commands);
    },
  };
}

const sparse = converted('VMDK monolithicSparse', 'vmdk', 'monolithicSparse', 'subformat=monolithicSparse');
const stream = converted('VMDK streamOptimized', 'vmdk', 'streamOptimized', 'subformat=streamOptimized');
const vhdx = converted('VHDX dynamic', 'vhdx', 'dynamic', 'subformat=dynamic');

/** Every kind of image that `qemu-img` decodes for us. */
export const KINDS: readonly Kind[] = [
  sparse,
  converted('VMDK with zeroed grains', 'vmdk', 'monolithicSparse', 'zeroed_grain=on,adapter_type=lsilogic'),
  worn('VMDK monolithicSparse, worn', sparse),
  stream,
  {
    ...stream,
    name: 'VMDK streamOptimized with a footer',
    make(raw, path) {
      stream.make(raw, path);
      appendFooter(path);
    },
  },
  converted('VDI dynamic', 'vdi', 'dynamic', 'static=off'),
  converted('VDI static', 'vdi', 'static', 'static=on'),
  worn('VDI dynamic, worn', converted('', 'vdi', 'dynamic', '')),
  converted('VHD dynamic, sized by its geometry', 'vhd', 'dynamic', 'subformat=dynamic'),
  converted('VHD dynamic, sized by its footer', 'vhd', 'dynamic', 'subformat=dynamic,force_size=on'),
  vhdx,
  converted('VHDX fixed', 'vhdx', 'fixed', 'subformat=fixed'),
  converted('VHDX with small blocks', 'vhdx', 'dynamic', 'subformat=dynamic,block_size=1M'),
  worn('VHDX dynamic, worn', vhdx),
];

/** Whether a raw disk is what `qemu-img` reads from an image. */
export function assertSameDisk(raw: string, image: string, driver: string): void {
  assert.match(qemuImg('compare', '-f', 'raw', '-F', driver, raw, image), /identical/);
}
