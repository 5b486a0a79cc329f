/**
 * Gives the memory of a piece of a body back at once, when it has been written on and nobody else has it. TLS hands over bytes in
 * pieces of 16 KiB, and V8 looks through the whole heap once for each 27 MiB that it is to find for itself: half of the time of
 * receiving. A piece of shared memory is left to it.
 */
export function freePiece({ buffer, byteLength }: Buffer): void {
  if (!(buffer instanceof ArrayBuffer) || buffer.detached) return;
  if (buffer.byteLength === byteLength) buffer.transfer(0);
}
