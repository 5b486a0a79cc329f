import { Option, type Command } from 'commander';
import { repeated } from '../repeated.js';

/** Adds `dvflow clone`; its code is loaded when it is called. */
export function registerCloneCommand(program: Command): void {
  program
    .command('clone <source>')
    .description(
      'copy the disk or the files of a claim, NAME or NAMESPACE/NAME, into a new claim, as a DataVolume',
    )
    .requiredOption('--name <name>', 'name of DataVolume and claim')
    .addOption(new Option('-n, --namespace <namespace>', 'namespace of the DataVolume').default('default'))
    .option('--size <quantity>', 'size of the disk, such as 10Gi (default: that of the source)')
    .option('--data-source', 'SOURCE is a DataSource, which names the claim')
    .option('--storage-class <class>', 'StorageClass of the claim')
    .option(
      '--access-mode <mode>',
      'access modes of the claim (with --pvc: ReadWriteOnce by default), repeatable',
      repeated,
    )
    .addOption(
      new Option('--volume-mode <mode>', 'Block: the device is the disk').choices(['Filesystem', 'Block']),
    )
    .addOption(
      new Option('--content-type <type>', 'archive: a claim of files').choices(['kubevirt', 'archive']),
    )
    .addOption(
      new Option('--storage', 'size of the disk, file system overhead is added (default)').conflicts('pvc'),
    )
    .addOption(new Option('--pvc', 'size of the claim, taken as it is'))
    .option('--wait-for-consumer', 'let the first pod that uses the claim choose the node, and wait for it')
    .option('--wait', 'wait for the end and show progress (default)')
    .option('--no-wait', 'return once the clone is started')
    .addOption(new Option('-o, --output <format>', 'for programs: one JSON document').choices(['json']))
    .action(async (source: string, options) => {
      const { runClone } = await import('./clone.js');
      await runClone(source, options as Parameters<typeof runClone>[1]);
    });
}
