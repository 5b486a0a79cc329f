import { Command, CommanderError, Option } from 'commander';
import { ownVersion } from '../workers/version.js';
import { registerBlankCommand } from './commands/blank-options.js';
import { registerCloneCommand } from './commands/clone-options.js';
import { registerImageCommands } from './commands/image-options.js';
import { registerLocalVolumeCommands } from './commands/local-volume-options.js';
import { registerLocalCommands } from './commands/local.js';
import { registerUploadCommand } from './commands/upload-options.js';
import { EXIT, judge } from './errors.js';
import { printFailure, withOutput } from './output.js';
import { repeated } from './repeated.js';
import { contentType, sourceKind } from './source-options.js';

/** Runs the command line to its end; the returned number is the exit code. */
export async function run(argv: readonly string[]): Promise<number> {
  return await withOutput(() => runCommand(argv));
}

async function runCommand(argv: readonly string[]): Promise<number> {
  const program = createProgram();
  let command: Command | undefined;
  program.hook('preAction', (_, called) => void (command = called));
  try {
    await program.parseAsync([...argv]);
    return EXIT.ok;
  } catch (error) {
    if (error instanceof CommanderError) return endOfParsing(error, argv);
    const { exitCode, message } = await judge(error);
    if (command && wantsJson(command.opts())) printFailure(message);
    process.stderr.write(`dvflow: ${message.replaceAll(/\s*\n\s*/g, ' ')}\n`);
    if (argv.includes('--debug') && error instanceof Error) process.stderr.write(`${traceOf(error)}\n`);
    return exitCode;
  }
}

/** Commander has said what is wrong; help that was asked for is a success. */
function endOfParsing({ exitCode, message }: CommanderError, argv: readonly string[]): number {
  if (exitCode === 0) return EXIT.ok;
  // no options were parsed: as they are spelt
  if (/ (--json|(-o ?|--output[ =])json)( |$)/.test(argv.join(' ')))
    printFailure(message.replace(/^error: /, ''));
  return EXIT.usage;
}

function wantsJson({ json, output }: { readonly json?: boolean; readonly output?: string }): boolean {
  return json === true || output === 'json';
}

/** The whole command line; each command's code is loaded when it is called. */
export function createProgram(): Command {
  const program = new Command('dvflow')
    .description('Disks of virtual machines on Kubernetes, as durable Temporal workflows')
    .version(ownVersion())
    .option('--debug', 'print stacks of errors')
    .showHelpAfterError('(see --help)')
    .exitOverride();
  addImport(program);
  registerBlankCommand(program);
  registerCloneCommand(program);
  registerUploadCommand(program);
  registerImageCommands(program);
  addQueries(program);
  addChanges(program);
  addDoctor(program);
  addWorker(program);
  registerLocalVolumeCommands(program);
  registerLocalCommands(program);
  addDemo(program);
  return program;
}

const output = () => new Option('-o, --output <format>', 'for programs: one JSON document').choices(['json']);
const namespace = () =>
  new Option('-n, --namespace <namespace>', 'namespace of the DataVolume').default('default');

function addImport(program: Command): void {
  program
    .command('import <url>')
    .description(
      'import a disk image (http(s)://, s3://, gs:// or docker://) or an archive into a new claim, as a DataVolume',
    )
    .requiredOption('--name <name>', 'name of DataVolume and claim')
    .addOption(namespace())
    .requiredOption('--size <quantity>', 'size of the disk, such as 10Gi')
    .option('--storage-class <class>', 'StorageClass of the claim')
    .option(
      '--access-mode <mode>',
      'access modes of the claim (with --pvc: ReadWriteOnce by default), repeatable',
      repeated,
    )
    .option('--checksum <algorithm:hex>', 'checksum of the bytes that the server sends')
    .addOption(sourceKind('URL'))
    .addOption(contentType('archive: a tar that is unpacked'))
    .option(
      '--secret <name>',
      'Secret with accessKeyId and secretKey (gs: credentials.json; docker: or a dockerconfigjson)',
    )
    .option('--cert-config-map <name>', 'ConfigMap with the certificate authorities of the server')
    .option(
      '--header <header>',
      'extra request header; one with a credential belongs into --secret-header, repeatable',
      repeated,
    )
    .option('--secret-header <secret>', 'Secret that holds extra request headers, repeatable', repeated)
    .option('--insecure-skip-verify', 'do not verify the certificate of the server')
    .option('--arch <architecture>', 'docker: architecture to choose')
    .addOption(
      new Option('--storage', 'size of the disk, file system overhead is added (default)').conflicts('pvc'),
    )
    .addOption(new Option('--pvc', 'size of the claim, taken as it is'))
    .option('--wait-for-consumer', 'let the first pod that uses the claim choose the node, and wait for it')
    .option('--wait', 'wait for the end and show progress (default)')
    .option('--no-wait', 'return once the import is started')
    .addOption(output())
    .action(async (url: string, options) => {
      const { runImport } = await import('./commands/import.js');
      await runImport(url, options as Parameters<typeof runImport>[1]);
    });
}

function addQueries(program: Command): void {
  program
    .command('get [name]')
    .description('list DataVolumes, with rate and time left of what runs')
    .addOption(namespace())
    .option('-A, --all-namespaces', 'of all namespaces')
    .addOption(output())
    .action(async (name: string | undefined, options) => {
      const { runGet } = await import('./commands/get.js');
      await runGet(name, options as Parameters<typeof runGet>[1]);
    });
  program
    .command('describe <name>')
    .description('facts and history of a DataVolume in plain words')
    .addOption(namespace())
    .addOption(output())
    .action(async (name: string, options) => {
      const { runDescribe } = await import('./commands/describe.js');
      await runDescribe(name, options as Parameters<typeof runDescribe>[1]);
    });
}

function addChanges(program: Command): void {
  program
    .command('cancel <name>')
    .description('cancel what runs for a DataVolume and wait until everything it made is removed')
    .addOption(namespace())
    .option('--no-wait', 'return once the cancellation is asked for')
    .action(async (name: string, options) => {
      const { runCancel } = await import('./commands/cancel.js');
      await runCancel(name, options as Parameters<typeof runCancel>[1]);
    });
  program
    .command('retry <name>')
    .description('let a Failed DataVolume run once more')
    .addOption(namespace())
    .option('--wait-for-consumer', 'let the first pod that uses the claim choose the node, and wait for it')
    .option('--wait', 'wait for the end and show progress')
    .action(async (name: string, options) => {
      const { runRetry } = await import('./commands/retry.js');
      await runRetry(name, options as Parameters<typeof runRetry>[1]);
    });
}

function addDoctor(program: Command): void {
  program
    .command('doctor')
    .description(
      'look at cluster, Temporal, workers, nodes and storage, and say what to do; exits with 1 on a problem',
    )
    .option('--json', 'for programs: one JSON document')
    .action(async (options) => {
      const { runDoctor } = await import('./commands/doctor.js');
      await runDoctor(options as Parameters<typeof runDoctor>[0]);
    });
}

function addWorker(program: Command): void {
  const worker = program.command('worker').description('run one role of dvflow until SIGTERM');
  for (const [role, does] of [
    ['control', 'every workflow, the watch, and the activities that talk to Kubernetes'],
    ['node', 'what must happen on one node: directories and transfers'],
    ['gateway', 'uploads, and the API that hands out their tokens'],
  ] as const) {
    worker
      .command(role)
      .description(does)
      .action(async () => {
        const { runWorker } = await import('../workers/main.js');
        await runWorker(role);
        // an attempt to connect that nobody waits for any longer would hold the process for half a minute
        process.exit();
      });
  }
}

function addDemo(program: Command): void {
  program
    .command('demo')
    .description('import a real disk end to end on the local stack and show everything on the way')
    .option('--once', 'take the stack down at the end, if this command started it')
    .option('--url <url>', 'import this image instead of one made here')
    .option('--checksum <algorithm:hex>', 'checksum of the image at --url')
    .option('--size <quantity>', 'size of the disk for --url', '10Gi')
    .action(async (options) => {
      const { runDemo } = await import('./commands/demo.js');
      await runDemo(options as Parameters<typeof runDemo>[0]);
    });
}

function traceOf(error: Error): string {
  const cause = error.cause instanceof Error ? `\ncaused by: ${traceOf(error.cause)}` : '';
  return `${error.stack ?? error.message}${cause}`;
}
