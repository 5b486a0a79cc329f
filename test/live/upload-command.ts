/** `dvflow upload` as a user runs it, against the stack of the tests. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { projectRoot } from '../../local/paths.js';
import type { TestStack } from '../support/stack.js';
import { eventually, type World } from './world.js';

/** What `dvflow upload -o json` tells. */
export interface Report {
  readonly bytes: number;
  readonly bytesSent: number;
  readonly resumed: boolean;
  readonly retries: number;
}

/** Where it uploads. */
export interface CommandPlace {
  readonly stack: TestStack;
  readonly namespace: string;
  /** Where it remembers what is unfinished. */
  readonly stateHome: string;
}

/** Starts the command; `done` is its report, or rejects with what it said. */
export function startUpload(
  { stack, namespace, stateHome }: CommandPlace,
  file: string,
  name: string,
  ...more: readonly string[]
) {
  const args = ['upload', file, '--dv', name, '-n', namespace, '-o', 'json', ...more];
  const child = spawn(process.execPath, [join(projectRoot(), 'lib', 'cli', 'main.js'), ...args], {
    env: {
      ...process.env,
      KUBECONFIG: stack.info.kubeconfig,
      TEMPORAL_ADDRESS: stack.info.temporalAddress,
      XDG_STATE_HOME: stateHome,
      // whose authority is believed, since the kubeconfig is this stack's
      DVFLOW_LOCAL_DIR: stack.info.directory,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  let errors = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()));
  const done = once(child, 'close').then(([code]) => {
    assert.equal(code, 0, errors);
    return JSON.parse(output) as Report;
  });
  return { child, done };
}

/** Waits until so much of the disk is there, by the DataVolume's own word. */
export async function awaitProgress(
  world: World,
  { namespace }: Pick<CommandPlace, 'namespace'>,
  name: string,
  percent: number,
): Promise<void> {
  await eventually(`${percent} % of ${name}`, 120_000, async () =>
    Number.parseFloat((await world.read(namespace, name))?.status?.progress ?? '') >= percent
      ? true
      : undefined,
  );
}

/** Waits until so many bytes of the disk are there; looks more often than a quiet machine takes for a whole disk. */
export async function awaitWritten(
  world: World,
  { pool, namespace }: { readonly pool: string; readonly namespace: string },
  name: string,
  bytes: number,
): Promise<void> {
  const claim = await eventually(`claim ${name}`, 60_000, async () => await world.claim(namespace, name));
  const uid = claim.metadata?.uid ?? 'none';
  for (const end = Date.now() + 120_000; Date.now() < end; await pause(5)) {
    const directory = (await readdir(pool)).find((entry) => entry.endsWith(uid));
    const disk = directory && (await stat(join(pool, directory, 'disk.img')).catch(() => undefined));
    if (disk && disk.blocks * 512 >= bytes) return;
  }
  const { status } = (await world.read(namespace, name)) ?? {};
  assert.fail(`${name} has not come to ${bytes} bytes: ${JSON.stringify(status)}`);
}
