import { transientFailure } from '../../../failures.js';
import { invalid } from '../../refusals.js';
import type { SandboxedEnd } from '../../sandbox/sandbox.js';
import type { Stretch } from '../../source/types.js';
import type { ForeignFormat, ForeignImage } from './types.js';

/** Names of QEMU's drivers. */
const DRIVERS: Readonly<Record<ForeignFormat, string>> = {
  vmdk: 'vmdk',
  vdi: 'vdi',
  vhd: 'vpc',
  vhdx: 'vhdx',
};
/** Descriptors of the sockets to the two exports. */
const SOURCE_FD = '3';
const TARGET_FD = '4';
/** Reads under way at once, of 2 MiB each: what the formats need to keep a source busy. */
const COROUTINES = 8;

/**
 * Arguments that copy a stretch of the disk of an image, in order. Every driver is named, so that nothing is guessed from
 * content; the image is not asked for a backing file; the only files are two open sockets, so that no path is ever opened.
 */
export function convertArguments(
  { format, options = {} }: ForeignImage,
  { start, end }: Stretch,
): readonly string[] {
  const part = { driver: 'raw', offset: start, size: end - start };
  const nbd = (fd: string) => ({ driver: 'nbd', server: { type: 'fd', str: fd } });
  const image = { driver: DRIVERS[format], ...options, file: nbd(SOURCE_FD), backing: null };
  return [
    'convert',
    '-n',
    '--target-is-zero',
    '-m',
    `${COROUTINES}`,
    // zeros are sought by the writer, at its own grain
    '-S',
    '64k',
    '--target-image-opts',
    `json:${JSON.stringify({ ...part, file: image })}`,
    [
      ...Object.entries(part).map(([key, value]) => `${key}=${value}`),
      'file.driver=nbd',
      'file.server.type=fd',
      `file.server.str=${TARGET_FD}`,
    ].join(','),
  ];
}

/** What QEMU says, and what it means; its own words may quote the image. */
const PHRASES: readonly (readonly [phrase: RegExp, reason: string])[] = [
  [/needs? to be replayed|contains a log/i, 'its log holds changes that are not in the disk yet'],
  [/Invalid footer|Failed to read footer/i, 'its footer is damaged'],
  [/truncated|beyond (?:the )?end|after the end/i, 'it is cut short'],
  [/checksum|CRC/i, 'a checksum is wrong'],
  [/error while reading/i, 'a part of its data cannot be decoded'],
  [/not supported|unsupported|not implemented/i, 'it uses a feature that qemu-img does not know'],
  [/Could not open|Invalid argument/i, 'its tables contradict each other'],
];

/** How a process ends by itself when it meets what its authors ruled out. */
const CRASHES: readonly NodeJS.Signals[] = ['SIGSEGV', 'SIGABRT', 'SIGBUS', 'SIGFPE', 'SIGILL', 'SIGTRAP'];

/**
 * Why `qemu-img` failed, where it was neither our source nor our target. One that never asked for a byte, lacks a driver or
 * memory, or was killed failed by the machine's fault; anything else is the image's.
 */
export function explainEnd(end: SandboxedEnd, format: ForeignFormat, requests: number): Error {
  const { code, killedBy, stderr } = end;
  if (killedBy && CRASHES.includes(killedBy))
    return invalid(`qemu-img cannot read the ${format}: it crashed on it (${killedBy})`);
  if (killedBy)
    return transientFailure(
      'NodeUnavailable',
      `qemu-img was ended by ${killedBy} while it read the ${format}: out of memory, out of time, or by somebody`,
    );
  if (requests === 0 || /Unknown driver|Cannot allocate memory/i.test(stderr))
    return transientFailure(
      'NodeUnavailable',
      `qemu-img cannot work on this node: it ended with code ${code} before it read the ${format}; is it installed, with that driver?`,
    );
  const reason = PHRASES.find(([phrase]) => phrase.test(stderr))?.[1] ?? 'it is damaged';
  return invalid(`qemu-img cannot read the ${format}: ${reason} (it ended with code ${code})`);
}
