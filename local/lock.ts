import { createHash } from 'node:crypto';
import { createServer } from 'node:net';

/** Lets go of a lock. */
export type Release = () => Promise<void>;

/**
 * Takes the lock of a directory, or returns undefined while another process holds it.
 * It is an abstract Unix socket: the kernel frees it with its holder, however that ends, and no file stays behind.
 */
export async function tryLock(directory: string): Promise<Release | undefined> {
  const name = createHash('sha256').update(directory).digest('hex').slice(0, 32);
  const server = createServer((socket) => socket.destroy());
  const taken = await new Promise<boolean>((settle, failed) => {
    server.once('listening', () => settle(true));
    server.once('error', (error: NodeJS.ErrnoException) =>
      error.code === 'EADDRINUSE' ? settle(false) : failed(error),
    );
    server.listen(`\0dvflow-${process.getuid?.() ?? 0}-${name}`);
  });
  if (!taken) return undefined;
  return () => new Promise((closed) => server.close(() => closed()));
}
