const POLYNOMIAL = 0x82f6_3b78;

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
  return crc;
});

/** CRC-32C (Castagnoli) as VHDX has it: of all bytes, the four at `zeroed` taken as 0. Node's `crc32` is another one. */
export function crc32c(bytes: Buffer, zeroed: number): number {
  let crc = 0xffff_ffff;
  for (let at = 0; at < bytes.length; at += 1) {
    const byte = at >= zeroed && at < zeroed + 4 ? 0 : (bytes[at] ?? 0);
    crc = (TABLE[(crc ^ byte) & 0xff] ?? 0) ^ (crc >>> 8);
  }
  return ~crc >>> 0;
}
