import { createDecodePool } from './decode/decode-pool.js';
import { zstdFrame } from './decode/zstd-frame.js';
import { refuseCluster } from './formats/qcow2/cluster.js';
import type { Qcow2Header } from './formats/qcow2/header.js';
import { createSharedPool, type Segment } from './pool.js';

/** Clusters go to a thread together when they fill so much: an order costs as much as decoding a small cluster. */
const BATCH_BYTES = 1024 * 1024;
/** Batches under way; the oldest is waited for before another is begun. */
const BATCHES = 4;

/** Decodes the clusters of a stream on threads; results are handed on in the order in which the clusters came. */
export interface ClusterBatches {
  /** Takes a copy of `stored`, one compressed cluster with what may follow it. */
  add(guest: number, stored: Buffer): Promise<void>;
  /** All clusters so far are decoded and handed on. */
  flush(): Promise<void>;
  close(): Promise<void>;
}

interface Batch {
  readonly segment: Segment;
  readonly guests: number[];
  readonly entries: number[];
  inputBytes: number;
}

type Decoded = Promise<{ readonly error?: Error }>;

/** Batches for one image; `emit` gets each whole cluster, valid until it resolves. */
export function createClusterBatches(
  { clusterSize, compression, virtualSize }: Qcow2Header,
  emit: (guest: number, cluster: Buffer) => Promise<void>,
): ClusterBatches {
  const segmentBytes = Math.max(BATCH_BYTES, clusterSize);
  // stored bytes of a cluster may begin and end inside sectors
  const besideBytes = segmentBytes + 2 * clusterSize;
  const pool = createSharedPool({ segmentBytes, besideBytes, count: BATCHES + 1 });
  const threads = createDecodePool({ compression, memory: pool.shared }, virtualSize);
  const under: { readonly batch: Batch; readonly decoded: Decoded }[] = [];
  let open: Batch | undefined;

  async function add(guest: number, sectors: Buffer): Promise<void> {
    const stored = compression === 'zstd' ? frameOf(sectors, clusterSize) : sectors;
    if (open && isFull(open, stored.length)) await submit();
    open ??= { segment: await pool.acquire(), guests: [], entries: [], inputBytes: 0 };
    const { segment, guests, entries } = open;
    const input = segment.beside.subarray(open.inputBytes, open.inputBytes + stored.length);
    stored.copy(input);
    open.inputBytes += stored.length;
    const output = segment.memory.byteOffset + guests.length * clusterSize;
    entries.push(input.byteOffset, stored.length, output, clusterSize);
    guests.push(guest);
  }

  function isFull({ guests, inputBytes, segment }: Batch, more: number): boolean {
    return (
      (guests.length + 1) * clusterSize > segment.memory.length || inputBytes + more > segment.beside.length
    );
  }

  async function submit(): Promise<void> {
    if (!open) return;
    const batch = open;
    open = undefined;
    const decoded = threads.decode(Float64Array.from(batch.entries)).then(
      (failed) => {
        if (!failed) return {};
        return { error: refuseCluster(failed.outcome, batch.guests[failed.index] ?? 0, clusterSize) };
      },
      (error: unknown) => ({ error: error as Error }),
    );
    under.push({ batch, decoded });
    while (under.length >= BATCHES) await handOn();
  }

  async function handOn(): Promise<void> {
    const oldest = under.shift();
    if (!oldest) return;
    const { batch, decoded } = oldest;
    const { error } = await decoded;
    if (error !== undefined) throw error;
    for (const [index, guest] of batch.guests.entries())
      await emit(guest, batch.segment.memory.subarray(index * clusterSize, (index + 1) * clusterSize));
    batch.segment.release();
  }

  async function flush(): Promise<void> {
    await submit();
    while (under.length > 0) await handOn();
  }
  return { add, flush, close: () => threads.close() };
}

/** Of a cluster that is one frame that alone, without the rest of its sector: frames that follow each other are decoded at once. */
function frameOf(sectors: Buffer, clusterSize: number): Buffer {
  const frame = zstdFrame(sectors);
  return frame?.contentBytes === clusterSize ? sectors.subarray(0, frame.bytes) : sectors;
}
