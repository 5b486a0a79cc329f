import { isUtf8 } from 'node:buffer';
import { readFileSync } from 'node:fs';

/**
 * Whether an argument is not UTF-8, which is said: Node has put U+FFFD in place of its bytes, so that two different names of files
 * are one, and the second disk would be written over the first. For a command line that holds U+FFFD; `commandLine` is what the
 * kernel has, which Linux alone shows.
 */
export function refuseUndecoded(commandLine = readCommandLine()): boolean {
  if (!commandLine || isUtf8(commandLine)) return false;
  process.stderr.write('dvflow: an argument is not UTF-8: rename the file, or name it by a link\n');
  return true;
}

function readCommandLine(): Buffer | undefined {
  try {
    return readFileSync('/proc/self/cmdline');
  } catch {
    return undefined;
  }
}
