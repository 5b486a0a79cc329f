/**
 * What is measured, as lines for bash. Their variables: `URL` of the image, with the server's `PORT` and the `URL_PATH` on it;
 * `IMAGE`, its file, and `PLAIN`, that of the plain qcow2; `FORMAT` and `STREAM_SIZE` (bytes) of the image without its wrapper;
 * `SHA256` of the image; `TARGET`, `SCRATCH` and `SCRATCH_DIRECTORY` on the file system under test; `PROGRAMS`, the directory of
 * the compiled ones; `NODE` and `DVFLOW`, the engine's program; `CONVERSION`, the file for its JSON.
 */
import type { Conversion } from './measure.js';

/** A way of turning the image behind `URL` into a disk. */
export interface Method {
  readonly title: string;
  readonly script: string;
  /** What its target holds: a raw disk, the image without its wrapper, or nothing to compare. @default disk */
  readonly result?: 'disk' | 'as-served' | 'none';
}

export type MethodName =
  'ours' | 'ours-checked' | 'cdi' | 'nbdkit' | 'nbdcopy' | 'gunzip' | 'gzip-dd' | 'xz' | 'sha256' | 'line';

/** A bound that no converter of this image can beat, or comes near. */
export type FloorName =
  | 'receiver'
  | 'network'
  | 'live'
  | 'disk'
  | 'zlib'
  | 'libdeflate'
  | 'zstd'
  | 'igzip'
  | 'xz'
  | 'sha256'
  | 'start';

/** The engine, as its users run it. */
const ours = (options = ''): string =>
  `"$NODE" "$DVFLOW" convert "$URL" "$TARGET" --json --scratch "$SCRATCH_DIRECTORY"${options} > "$CONVERSION"`;

/** The second half of CDI's way. */
export const TO_TARGET =
  'qemu-img convert -t writeback -f "$FORMAT" -O raw "$SCRATCH" "$TARGET" && sync "$TARGET"';
const SPARSE =
  'dd of="$TARGET" bs=1M iflag=fullblock conv=sparse status=none && truncate -s "$STREAM_SIZE" "$TARGET" && sync "$TARGET"';

/** The engine and its peers; the peers' lines are the ones that people use. */
export const METHODS: Readonly<Record<MethodName, Method>> = {
  ours: { title: 'dvflow convert', script: ours() },
  'ours-checked': { title: 'dvflow convert --checksum', script: ours(' --checksum "sha256:$SHA256"') },
  cdi: {
    title: "CDI's way: curl to scratch, qemu-img convert",
    script: `curl -sf -o "$SCRATCH" "$URL" && ${TO_TARGET}`,
  },
  nbdkit: {
    title: 'nbdkit curl, qemu-img convert -t none -m 16 -W',
    script: `nbdkit -U - -r curl "$URL" --run 'qemu-img convert -m 16 -W -t none -f "$FORMAT" -O raw "$uri" "$TARGET"' && sync "$TARGET"`,
  },
  nbdcopy: {
    title: 'nbdkit curl, qemu-nbd, nbdcopy',
    script: `nbdkit -U - -r curl "$URL" --run 'if [ "$FORMAT" = raw ]; then nbdcopy --flush "$uri" "$TARGET"; else nbdcopy --flush -- [ qemu-nbd -r -f "$FORMAT" "$uri" ] "$TARGET"; fi' && sync "$TARGET"`,
  },
  gunzip: {
    title: "CDI's way: curl, gzip -dc to scratch, qemu-img convert",
    script: `curl -sf "$URL" | gzip -dc > "$SCRATCH" && ${TO_TARGET}`,
  },
  'gzip-dd': {
    title: 'curl, gzip -dc, dd conv=sparse',
    script: `curl -sf "$URL" | gzip -dc | ${SPARSE}`,
    result: 'as-served',
  },
  xz: {
    title: 'curl, xz -dc -T0, dd conv=sparse',
    script: `curl -sf "$URL" | xz -dc -T0 | ${SPARSE}`,
    result: 'as-served',
  },
  sha256: {
    title: "CDI's way with checksum: curl to scratch, sha256sum, qemu-img convert",
    script: `curl -sf -o "$SCRATCH" "$URL" && echo "$SHA256  $SCRATCH" | sha256sum -c --quiet && ${TO_TARGET}`,
  },
  line: { title: 'line rate: curl > /dev/null', script: 'curl -sf -o /dev/null "$URL"', result: 'none' },
};

/** Floors: what the machine needs for the part of the work that nobody can leave out. */
export const FLOORS: Readonly<Record<FloorName, Method>> = {
  receiver: {
    title: 'C receiver, O_DIRECT',
    script: '"$PROGRAMS/receive" "$PORT" "$URL_PATH" "$TARGET"',
    result: 'as-served',
  },
  network: { title: 'network alone', script: 'curl -sf -o /dev/null "$URL"', result: 'none' },
  live: {
    title: 'network alone, as many bytes as are live',
    script: `curl -sf -o /dev/null -r "0-$(($(stat -c %s "$PLAIN") - 1))" "$URL"`,
    result: 'none',
  },
  disk: {
    title: 'disk alone, dd oflag=direct',
    script: 'dd if="$PLAIN" of="$TARGET" bs=8M oflag=direct conv=fsync status=none',
    result: 'none',
  },
  zlib: { title: 'zlib decode, 2 threads', script: '"$PROGRAMS/decode" zlib "$IMAGE" 2', result: 'none' },
  libdeflate: {
    title: 'libdeflate decode, 2 threads',
    script: '"$PROGRAMS/decode" libdeflate "$IMAGE" 2',
    result: 'none',
  },
  zstd: { title: 'zstd decode, 2 threads', script: '"$PROGRAMS/decode" zstd "$IMAGE" 2', result: 'none' },
  igzip: { title: 'igzip -dc > /dev/null', script: 'igzip -dc "$IMAGE" > /dev/null', result: 'none' },
  xz: { title: 'xz -dc -T0 > /dev/null', script: 'xz -dc -T0 "$IMAGE" > /dev/null', result: 'none' },
  start: {
    title: 'start, dvflow convert of 1 MiB',
    script: 'truncate -s 1M "$SCRATCH" && "$NODE" "$DVFLOW" convert "$SCRATCH" "$TARGET" --json > /dev/null',
    result: 'none',
  },
  sha256: { title: 'sha256sum', script: 'sha256sum "$IMAGE" > /dev/null', result: 'none' },
};

/** Whether a method is the engine itself, whose JSON is then read. */
export function isOurs(name: string): name is 'ours' | 'ours-checked' {
  return name === 'ours' || name === 'ours-checked';
}

/** Reads the one JSON document that the engine prints at the end. @throws when a figure that is judged is missing */
export function readConversion(text: string): Conversion {
  const read = JSON.parse(text) as Conversion;
  for (const key of ['peakRssBytes', 'maxLoopDelayMs'] as const)
    if (typeof read.stats?.[key] !== 'number') throw new Error(`the engine's JSON has no stats.${key}`);
  return read;
}
