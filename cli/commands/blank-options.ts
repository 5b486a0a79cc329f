import { Option, type Command } from 'commander';
import { repeated } from '../repeated.js';

/** Adds `dvflow blank`; its code is loaded when it is called. */
export function registerBlankCommand(program: Command): void {
  program
    .command('blank')
    .description('make an empty disk in a new claim, as a DataVolume')
    .requiredOption('--name <name>', 'name of DataVolume and claim')
    .addOption(new Option('-n, --namespace <namespace>', 'namespace of the DataVolume').default('default'))
    .requiredOption('--size <quantity>', 'size of the disk, such as 10Gi')
    .option('--storage-class <class>', 'StorageClass of the claim')
    .option(
      '--access-mode <mode>',
      'access modes of the claim (with --pvc: ReadWriteOnce by default), repeatable',
      repeated,
    )
    .addOption(
      new Option('--volume-mode <mode>', 'Block: the device is the disk').choices(['Filesystem', 'Block']),
    )
    .option('--preallocation', 'take the room of the whole disk now; zero a block device')
    .option('--no-preallocation', 'a sparse disk, whatever the CDIConfig says')
    .addOption(
      new Option('--storage', 'size of the disk, file system overhead is added (default)').conflicts('pvc'),
    )
    .addOption(new Option('--pvc', 'size of the claim, taken as it is'))
    .option('--wait-for-consumer', 'let the first pod that uses the claim choose the node, and wait for it')
    .option('--wait', 'wait for the end (default)')
    .option('--no-wait', 'return once the work is started')
    .addOption(new Option('-o, --output <format>', 'for programs: one JSON document').choices(['json']))
    .action(async (options) => {
      const { runBlank } = await import('./blank.js');
      await runBlank(options as Parameters<typeof runBlank>[0]);
    });
}
