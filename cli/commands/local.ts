import { InvalidArgumentError, Option, type Command } from 'commander';
import { namesTemporal, ownsTemporal, ownTemporal } from '../../local/environment.js';
import type { StackInfo } from '../../local/types.js';
import { CliError, EXIT } from '../errors.js';
import { print } from '../output.js';

/** Adds `local up|env|status|down`: the whole stack on one machine. */
export function registerLocalCommands(program: Command): void {
  const local = program.command('local').description('Kubernetes, Temporal and the workers on this machine');
  local
    .command('up')
    .description('start the stack and wait until all of it is ready')
    .addOption(
      new Option('--ports <which>', 'usual ports, or any that are free')
        .choices(['default', 'free'])
        .default('default'),
    )
    .option('--no-workers', 'only Kubernetes and Temporal')
    .option('--nodes <count>', 'real nodes, on which pods run; needs root and containerd', parseCount)
    .action(async ({ ports, workers, nodes }: UpOptions) => {
      const { stackUp } = await import('../../local/index.js');
      const info = await stackUp({ ports, workers, ...(nodes === undefined ? {} : { nodes }) }, print);
      print(`Temporal UI: ${info.uiUrl}`);
      print('use it: eval "$(npx dvflow local env)"');
    });
  local
    .command('env')
    .description('print what a shell needs to use the stack: eval "$(dvflow local env)"')
    .action(printEnvironment);
  local
    .command('status')
    .description('list the processes of the stack; exits with 0 only when all of it is ready')
    .action(printStatus);
  local
    .command('down')
    .description('end the stack and leave its data')
    .option('--purge', 'remove its data too')
    .action(async ({ purge = false }: { purge?: boolean }) => {
      const { stackDown } = await import('../../local/index.js');
      await stackDown({ purge }, print);
    });
}

interface UpOptions {
  readonly ports: 'default' | 'free';
  readonly workers: boolean;
  readonly nodes?: number;
}

function parseCount(text: string): number {
  if (!/^\d$/.test(text)) throw new InvalidArgumentError('a number from 0 to 9 is expected');
  return Number(text);
}

/**
 * Lines for a POSIX shell of environment `env` that point kubectl, Temporal's tools and dvflow at a stack, and away from a Temporal
 * server that the shell or its user's profile file names.
 */
export function environmentLines(info: StackInfo, env: NodeJS.ProcessEnv = process.env): readonly string[] {
  const own = ownsTemporal(info);
  const variables = {
    KUBECONFIG: info.kubeconfig,
    TEMPORAL_ADDRESS: info.temporalAddress,
    ...(own ? ownTemporal(info.directory) : {}),
    DVFLOW_UI: info.uiUrl,
  };
  const unwanted = Object.keys(env).filter((name) => own && namesTemporal(name) && !(name in variables));
  return [
    ...unwanted.map((name) => `unset ${name}`),
    ...Object.entries(variables).map(([name, value]) => `export ${name}=${quote(value)}`),
  ];
}

/** A word for a POSIX shell, quoted only where it has to be. */
function quote(value: string): string {
  return /^[\w./:@%+=-]+$/.test(value) ? value : `'${value.replaceAll("'", String.raw`'\''`)}'`;
}

async function printEnvironment(): Promise<void> {
  const { stackStatus } = await import('../../local/index.js');
  const { info, directory } = await stackStatus({});
  if (info === undefined)
    throw new Error(`no local stack runs in ${directory}: start it with dvflow local up`);
  for (const line of environmentLines(info)) print(line);
}

async function printStatus(): Promise<void> {
  const { stackStatus } = await import('../../local/index.js');
  const { state, processes, directory, info } = await stackStatus({});
  print(`local stack in ${directory}: ${state}`);
  const width = Math.max(0, ...processes.map(({ name }) => name.length));
  for (const { name, pid, state: how } of processes) {
    print(`${name.padEnd(width)}  ${String(pid ?? '-').padStart(7)}  ${how}`);
  }
  for (const { name, address, pool } of info?.nodes ?? []) print(`${name}  ${address}  volumes in ${pool}`);
  if (info !== undefined) print(`Temporal ${info.temporalAddress}, UI ${info.uiUrl}`);
  if (state !== 'running') {
    throw new CliError('not all of the local stack is ready: dvflow local up starts it', EXIT.unknown);
  }
}
