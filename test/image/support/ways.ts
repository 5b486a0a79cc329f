import { execFileSync } from 'node:child_process';
import type { FileSourceOptions } from './file-source.js';
import { qemuImg } from './images.js';

/** One way to read an image: how its file is made of a raw disk, how the source behaves, and which plan comes of it. */
export interface Way {
  readonly make: (raw: string, image: string) => void;
  readonly source: FileSourceOptions;
  /** Of `ImageFacts.reason`. */
  readonly plan: RegExp;
}

type Make = Way['make'];
const RANGES: FileSourceOptions = {};
const STREAM: FileSourceOptions = { ranges: false };

/** By `qemu-img convert` to a format of QEMU. */
export function converted(driver: string, ...options: readonly string[]): Make {
  return (raw, image) => void qemuImg('convert', '-f', 'raw', '-O', driver, ...options, raw, image);
}

/** Through a command that reads one end and writes the other. */
export function piped(command: string, first: Make = copied): Make {
  return (raw, image) => {
    first(raw, `${image}.inner`);
    execFileSync('sh', ['-c', `${command} < '${image}.inner' > '${image}'`]);
  };
}

/** As it is. */
export const copied: Make = (raw, image) => void execFileSync('cp', ['--sparse=always', raw, image]);

const withSnapshot: Make = (raw, image) => {
  converted('qcow2')(raw, image);
  qemuImg('snapshot', '-c', 'one', image);
};

/** Every read plan, each with what differs in how the target is written. */
export const WAYS: Readonly<Record<string, Way>> = {
  'qcow2 by ranges': { make: converted('qcow2'), source: RANGES, plan: /^qcow2 is read in guest order/ },
  'zlib qcow2 by ranges': {
    make: converted('qcow2', '-c'),
    source: RANGES,
    plan: /^qcow2 is read in guest order/,
  },
  'qcow2 in one pass': { make: converted('qcow2'), source: STREAM, plan: /^qcow2 is decoded in one pass/ },
  'zstd qcow2 in one pass': {
    make: converted('qcow2', '-c', '-o', 'compression_type=zstd'),
    source: STREAM,
    plan: /^qcow2 is decoded in one pass/,
  },
  'qcow2 in gz': {
    make: piped('gzip -1', converted('qcow2')),
    source: RANGES,
    plan: /^qcow2 is decoded in one pass, inside gz/,
  },
  'qcow2 from scratch space': {
    make: withSnapshot,
    source: STREAM,
    plan: /^qcow2 is kept in scratch space/,
  },
  'raw by ranges': { make: copied, source: RANGES, plan: /^a raw disk is read by ranges/ },
  'raw as a stream': { make: copied, source: STREAM, plan: /^a raw disk is copied straight through/ },
  'raw in gz': { make: piped('gzip -1'), source: RANGES, plan: /^a raw disk is copied .*inside gz/ },
  'raw in xz': { make: piped('xz -0 -T1'), source: RANGES, plan: /^a raw disk is copied .*inside xz/ },
  'raw in xz of several blocks': {
    make: piped('xz -0 --block-size=1MiB'),
    source: RANGES,
    plan: /inside xz; it can be entered in the middle/,
  },
  'raw in zst': { make: piped('zstd -q -1'), source: RANGES, plan: /^a raw disk is copied .*inside zst/ },
  'VMDK by ranges': {
    make: converted('vmdk'),
    source: RANGES,
    plan: /^VMDK is decoded by qemu-img, which reads it by ranges/,
  },
  'VDI from scratch space': {
    make: converted('vdi'),
    source: STREAM,
    plan: /^VDI is kept in scratch space/,
  },
};
