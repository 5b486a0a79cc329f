/** A port for a server that is not there yet, or goes and comes back. */
import { freeBlock } from '../../local/ports.js';

/** A port of 127.0.0.1 that nobody uses, and that nobody else is given as long as this process lives. */
export async function freePort(): Promise<number> {
  const [port = 0] = await freeBlock(1);
  return port;
}
