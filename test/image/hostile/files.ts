import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { deflateRawSync } from 'node:zlib';
import { firstL2, QCOW2_LIES } from '../qcow2-lies.js';
import { tarArchive, tarEntry } from '../archive/tar.js';
import { zipArchive } from '../archive/zip.js';
import { MIB, qemuImg } from '../support/images.js';
import type { Props, Trick } from './trick.js';

/** Reading stops a few buffers after the size of the claim. */
const BOMB_READ = 2 * MIB;
const OFFER = /^image needs (?:at least )?\d+ bytes, claim \S+ offers 8388608$/u;

function ofFile(
  name: string,
  { make, ...rest }: Omit<Trick, 'name' | 'play'> & { readonly make: (props: Props) => Buffer },
): Trick {
  return { name, ...rest, play: async (props, ranges) => ({ url: await props.offer(make(props), ranges) }) };
}

/** A lie that `qcow2.hostile.test.ts` tells too, in a compressor and by other sources. */
function ofLie(name: string, lieName: string, more: Partial<Trick> = {}): Trick {
  const lie = QCOW2_LIES.find((one) => one.name === lieName);
  if (!lie) throw new Error(`no lie is named ${lieName}`);
  const { edit, type, message } = lie;
  return ofFile(name, { type, message, ...more, make: ({ honest }) => (edit(honest), honest) });
}

/** Lies of qcow2 and VMDK. */
export const IMAGE_TRICKS: readonly Trick[] = [
  ofLie('backing-file-absolute', 'a backing file, absolute'),
  ofLie('backing-file-relative', 'a backing file, relative'),
  ofLie('backing-file-json', 'a backing file, json:'),
  ofLie('external-data-file', 'an external data file'),
  ofFile('vmdk-flat-extents', {
    type: 'ImageHostile',
    message: /is the descriptor of a VMDK, whose flat extents are other files/u,
    make({ directory }) {
      const path = `${directory}/flat.vmdk`;
      qemuImg('create', '-f', 'vmdk', '-o', 'subformat=monolithicFlat', path, '8M');
      return readFileSync(path);
    },
  }),
  ofLie('l1-at-2^60', 'an L1 table beyond 2^53'),
  ofLie('l1-of-2^32-entries', 'an L1 table of 32 GiB'),
  ofLie('cluster-bits-8', 'clusters of 256 bytes'),
  ofLie('cluster-bits-31', 'clusters of 2^31 bytes'),
  ofLie('l2-out-of-file', 'an L1 entry outside the file', { late: true }),
  ofLie('l1-that-names-itself', 'an L1 entry that names the L1 table', { late: true }),
  ofLie('l2-that-names-itself', 'a cluster on its own L2 table', { late: true }),
  ofLie('table-over-table', 'an L1 table on the refcount table'),
  ofLie('table-over-header', 'an L1 table on the header'),
  ofLie('data-over-header', 'a cluster on the header', { late: true }),
];

/** A bomb takes seconds to make: it is made once, for all ways to read it. */
function once(make: (props: Props) => Buffer): (props: Props) => Buffer {
  let made: Buffer | undefined;
  return (props) => (made ??= make(props));
}

function bombOf(command: string): (props: Props) => Buffer {
  return once(({ directory }) => {
    const path = `${directory}/bomb`;
    execFileSync('sh', ['-c', `head -c 300M /dev/zero | ${command} > ${path}`]);
    return readFileSync(path);
  });
}

const ofBomb = (name: string, command: string): Trick =>
  ofFile(name, {
    type: 'LargerPVCRequired',
    message: OFFER,
    mostRead: BOMB_READ,
    late: true,
    make: bombOf(command),
  });

/** What becomes much more than it is. */
export const BOMB_TRICKS: readonly Trick[] = [
  ofBomb('bomb-gz', 'gzip -9'),
  ofBomb('bomb-gz-in-gz', 'gzip -9 | gzip -9'),
  ofBomb('bomb-xz', 'xz -0'),
  ofBomb('bomb-zstd', 'zstd -q'),
  ofFile('bomb-zip', {
    type: 'LargerPVCRequired',
    message: OFFER,
    late: true,
    make: once(() => zipArchive([{ content: Buffer.alloc(300 * MIB) }])),
  }),
  ofFile('bomb-compressed-cluster', {
    type: 'ImageHostile',
    message: /guest offset 0 expands beyond its 65536 bytes/u,
    mostRead: 12 * MIB,
    late: true,
    make({ compressed }) {
      const bomb = deflateRawSync(Buffer.alloc(100 * MIB));
      const sectors = Math.ceil(bomb.length / 512) - 1;
      const entry = (1n << 62n) | (BigInt(Math.min(sectors, 255)) << 54n) | BigInt(compressed.length);
      compressed.writeBigUInt64BE(entry, firstL2(compressed));
      return Buffer.concat([compressed, bomb, Buffer.alloc(512 - (bomb.length % 512))]);
    },
  }),
];

const CONTENT = Buffer.from('disk content, '.repeat(5000));

function ofTar(name: string, message: RegExp, ...fields: Parameters<typeof tarEntry>): Trick {
  const make = (): Buffer => tarArchive(tarEntry(...fields));
  return ofFile(name, { type: 'ImageHostile', message, make });
}

/** Archives that hold something else than they should. */
export const ARCHIVE_TRICKS: readonly Trick[] = [
  ofFile('zip-two-entries', {
    type: 'UnsupportedFormat',
    message: /zip archive holds (?:2 files, one is expected|more than one file): 'a'(?:,| and) 'b'$/u,
    late: true,
    make: () =>
      zipArchive([
        { content: CONTENT, name: 'a' },
        { content: CONTENT, name: 'b' },
      ]),
  }),
  ofFile('zip-lying-size', {
    type: 'ImageHostile',
    message: /'disk.img' becomes more than the 1000 bytes that it says/u,
    late: true,
    make: () => zipArchive([{ content: CONTENT, says: { size: 1000 } }]),
  }),
  ofTar('tar-dot-dot', /'a\/..\/..\/disk' leads out/u, { name: 'a/../../disk' }, 'x'),
  ofTar('tar-symlink', /'file' is a symlink to/u, { type: '2', link: '/elsewhere' }),
  ofTar('tar-hardlink', /'file' is a hardlink to/u, { type: '1', link: '../x' }),
  ofTar('tar-character-device', /'file' is a character device/u, { type: '3' }),
  ofTar('tar-block-device', /'file' is a block device/u, { type: '4' }),
];
