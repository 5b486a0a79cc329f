import type { MovedBytes, TransferObserver } from '../../activities/image/transfer.js';
import type { ActivityObserver } from './activities.js';
import type { Metrics } from './index.js';

/** Counts what takes a transfer slot of a node, whatever it is, and the seconds of each image's transfer. */
export function transferMetrics(metrics: Metrics, slots: number): ActivityObserver {
  let active = 0;
  metrics.record('dvflow_active_transfers', active);
  metrics.record('dvflow_transfer_slots', slots);
  return {
    begin(type) {
      metrics.record('dvflow_active_transfers', ++active);
      return ({ seconds, outcome }) => {
        metrics.record('dvflow_active_transfers', --active);
        if (type !== 'transferImage' && type !== 'receiveUpload') return;
        metrics.record('dvflow_transfer_seconds', seconds, { outcome });
      };
    },
  };
}

/** Counts the bytes of each transfer as they move: an attempt begins with the figures of those before it. */
export function byteMetrics(metrics: Metrics): TransferObserver {
  for (const plan of ['ranged', 'one-pass', 'qemu-img', 'unpack', 'upload']) {
    metrics.record('dvflow_transfer_read_bytes_total', 0, { plan });
    metrics.record('dvflow_transfer_written_bytes_total', 0, { plan });
  }
  countZeros(metrics)(0);
  return ({ plan }, before) => countBytes(metrics, plan, before);
}

/** Counts the bytes of each upload, as plan `upload`. */
export function uploadMetrics(metrics: Metrics): (before: MovedBytes) => (now: MovedBytes) => void {
  return (before) => countBytes(metrics, 'upload', before);
}

/** Counts the bytes of devices that are made zero, as plan `zeros`: a device that cannot do it by itself is busy for hours. */
export function countZeros(metrics: Metrics): (bytes: number) => void {
  return (bytes) => metrics.record('dvflow_transfer_written_bytes_total', bytes, { plan: 'zeros' });
}

function countBytes(metrics: Metrics, plan: string, before: MovedBytes): (now: MovedBytes) => void {
  let { bytesRead, bytesWritten, bytesZeroed = 0 } = before;
  return (now) => {
    // A source that changed is read from zero.
    const read = Math.max(0, now.bytesRead - bytesRead);
    const written = Math.max(0, now.bytesWritten - bytesWritten);
    const zeroed = Math.max(0, (now.bytesZeroed ?? bytesZeroed) - bytesZeroed);
    ({ bytesRead, bytesWritten, bytesZeroed = bytesZeroed } = now);
    metrics.record('dvflow_transfer_read_bytes_total', read, { plan });
    metrics.record('dvflow_transfer_written_bytes_total', written, { plan });
    if (zeroed > 0) countZeros(metrics)(zeroed);
  };
}
