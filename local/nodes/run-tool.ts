import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { TOOL_PATH } from './requirements.js';

/**
 * Runs a program of the system and resolves with its output.
 * @throws naming the command and what it wrote to standard error
 */
export async function runTool(file: string, ...args: readonly string[]): Promise<string> {
  try {
    const env = { ...process.env, PATH: TOOL_PATH };
    const { stdout } = await promisify(execFile)(file, [...args], { env, maxBuffer: 1 << 24 });
    return stdout;
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string };
    throw new Error(`${file} ${args.join(' ')}: ${stderr?.trim() || message}`, { cause: error });
  }
}
