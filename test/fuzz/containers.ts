import { execFileSync } from 'node:child_process';
import { closeSync, copyFileSync, linkSync, mkdirSync, openSync, readSync, rmSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { makeSkippableFrame } from './skippable-frame.js';
import type { Random } from '../support/random.js';

/** A container as one of its tools makes it. */
interface Wrapping {
  readonly name: string;
  /** Shell: `$1` is the file, `$2` the container, `$at` a place inside the file. */
  readonly script: string;
}

const XZ_CHECKS = ['none', 'crc32', 'crc64', 'sha256'];

/** In two parts, of which the tool makes two streams. */
const inParts = (tool: string): string =>
  `{ head -c "$at" "$1" | ${tool}; tail -c +"$((at + 1))" "$1" | ${tool}; } > "$2"`;

function wrappings(random: Random): readonly Wrapping[] {
  const check = `--check=${random.pick(XZ_CHECKS)}`;
  const block = `--block-size=${2 ** random.integer(14, 20)}`;
  const zstd = `zstd -qc -${random.pick([1, 3, 10])} ${random.pick(['', '--no-check', '--long=27'])}`;
  const padding = `head -c ${4 * random.integer(0, 3)} /dev/zero`;
  const tar = random.pick(['v7', 'ustar', 'gnu', 'oldgnu', 'pax'].slice(1));
  const sparse = tar === 'ustar' ? '' : random.pick(['', '-S']);
  const pack = `tar --format=${tar} ${sparse} -C "$(dirname "$1")" -cf`;
  const zip = random.pick(['-0', '-1', '-9']);
  const skip = makeSkippableFrame(random);
  return [
    { name: 'gz', script: `gzip -nc -${random.pick([1, 6, 9])} "$1" > "$2"` },
    { name: 'gz of two members', script: inParts('gzip -nc1') },
    { name: 'xz', script: `xz -T1 -0 ${check} -c "$1" > "$2"` },
    {
      name: 'xz with a filter',
      script: `xz -T1 ${random.pick(['--x86', '--delta=dist=4'])} --lzma2=preset=0 -c "$1" > "$2"`,
    },
    { name: 'xz of blocks', script: `xz -T1 -0 ${block} ${check} -c "$1" > "$2"` },
    { name: 'xz of threads', script: `xz -T2 -0 ${block} ${check} -c "$1" > "$2"` },
    { name: 'xz of two streams', script: `${inParts(`xz -T1 -0 ${check}`)}; ${padding} >> "$2"` },
    { name: 'zst', script: `${zstd} "$1" > "$2"` },
    { name: 'zst of two frames', script: inParts(zstd) },
    {
      name: 'zst with a skippable frame',
      script: `{ printf '${skip}'; ${zstd} "$1"; printf '${skip}'; } > "$2"`,
    },
    { name: `zip ${zip}`, script: `zip -qj ${zip} - "$1" > "$2"` },
    { name: `streamed zip ${zip}`, script: `zip -q ${zip} - - < "$1" > "$2"` },
    { name: `tar ${tar}`, script: `${pack} "$2" "$(basename "$1")"` },
    { name: `tar.gz ${tar}`, script: `${pack} - "$(basename "$1")" | gzip -nc1 > "$2"` },
    { name: `tar.xz ${tar}`, script: `${pack} - "$(basename "$1")" | xz -T1 -0 ${block} > "$2"` },
    { name: `tar.zst ${tar}`, script: `${pack} - "$(basename "$1")" | zstd -qc1 > "$2"` },
  ];
}

/** Puts a file into a container, and seldom that into another one; what was done. */
export function wrap(random: Random, path: string, wrapped: string): string[] {
  const story = [wrapOnce(random, path, wrapped)];
  if (!random.chance(15)) return story;
  copyFileSync(wrapped, `${wrapped}.once`);
  story.push(wrapOnce(random, `${wrapped}.once`, wrapped));
  rmSync(`${wrapped}.once`);
  return story;
}

function wrapOnce(random: Random, path: string, wrapped: string): string {
  const { name, script } = random.pick(wrappings(random));
  const at = random.integer(0, statSync(path).size);
  // a name and a place of its own: archives keep the name
  const room = `${dirname(wrapped)}/packing`;
  rmSync(room, { recursive: true, force: true });
  mkdirSync(room);
  linkSync(path, `${room}/disk.img`);
  execFileSync('bash', ['-ec', script, 'bash', `${room}/disk.img`, wrapped], {
    env: { ...process.env, at: `${at}` },
    stdio: 'pipe',
  });
  rmSync(room, { recursive: true });
  return name;
}

/** The container that a file is, by its first bytes; absent: none. Written anew, for the engine's own answer is what is judged. */
function containerOf(path: string): 'gz' | 'xz' | 'zst' | 'zip' | 'tar' | undefined {
  const head = readHead(path);
  if (head.subarray(0, 2).toString('hex') === '1f8b') return 'gz';
  if (head.subarray(0, 6).toString('hex') === 'fd377a585a00') return 'xz';
  if (/^(28b52ffd|5.2a4d18)/.test(head.subarray(0, 4).toString('hex'))) return 'zst';
  if (/^PK(\x03\x04|\x05\x06)/.test(head.subarray(0, 4).toString('latin1'))) return 'zip';
  return isTar(head) ? 'tar' : undefined;
}

/** By its magic, or, as a header of version 7 has none, by its checksum. */
function isTar(head: Buffer): boolean {
  if (head.subarray(257, 262).toString('latin1') === 'ustar') return true;
  const [, said] = /^ *([0-7]+)[ \0]/u.exec(head.toString('latin1', 148, 156)) ?? [];
  const sum = head.reduce((all, byte, at) => all + (at >= 148 && at < 156 ? 32 : byte), 0);
  return said !== undefined && parseInt(said, 8) === sum;
}

function readHead(path: string): Buffer {
  const head = Buffer.alloc(512);
  const fd = openSync(path, 'r');
  readSync(fd, head);
  closeSync(fd);
  return head;
}

/** How each container is opened by its own tool. */
const OPENERS = {
  gz: 'gzip -dc < "$1" > "$2"',
  xz: 'xz -dc < "$1" > "$2"',
  zst: 'zstd -qdc --long=31 < "$1" > "$2"',
  zip: 'unzip -p "$1" > "$2"',
  tar: 'tar -xOf "$1" > "$2"',
} as const;

/** What a container's own tool said of it. */
export type Opened = { readonly path: string } | { readonly refused: string };

/** Takes all containers off by their own tools; what is inside, beside the file, or why a tool refuses. */
export function unwrap(path: string): Opened {
  let inside = path;
  for (let depth = 1; ; depth += 1) {
    const container = containerOf(inside);
    if (container === undefined) return { path: inside };
    const next = `${path}.inside-${depth}`;
    const refused = open(OPENERS[container], inside, next);
    if (refused !== undefined) return { refused: `${container}: ${refused}` };
    inside = next;
  }
}

function open(script: string, from: string, to: string): string | undefined {
  // a bomb of a mutation fills 512 MiB and no disk
  const limited = `ulimit -f ${512 * 1024}; ${script}`;
  try {
    execFileSync('bash', ['-c', limited, 'bash', from, to], { stdio: 'pipe', timeout: 30_000 });
    return undefined;
  } catch (error) {
    const { stderr = '' } = error as { stderr?: Buffer | string };
    return String(stderr).trim() || 'no reason given';
  }
}
