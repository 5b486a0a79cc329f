import { InvalidArgumentError, Option, type Command } from 'commander';

const output = () => new Option('-o, --output <format>', 'for programs: one JSON document').choices(['json']);

/** Adds `local-volume create|list|delete`: block volumes over files of a node. */
export function registerLocalVolumeCommands(program: Command): void {
  const volumes = program.command('local-volume').description('block volumes over files of a node');
  volumes
    .command('create')
    .description('make a file on a node, a loop device over it, and a PersistentVolume for it')
    .requiredOption('--node <node>', 'Kubernetes node that it is made on')
    .requiredOption('--size <quantity>', 'size of file, device and volume, such as 2Gi')
    .requiredOption('--block', 'a raw block device (deploy/examples/local-volume.yaml shows a directory)')
    .option('--name <name>', 'name of the PersistentVolume (default: local-NODE- and eight digits)')
    .option('--class <class>', 'StorageClass that no provisioner serves (default: local)')
    .option('--pool <path>', 'pool that gets the file (default: the first)')
    .option('--preallocate', 'allocate every block of the file now')
    .option('--label <key=value>', 'label of the PersistentVolume, for selectors, repeatable', collectLabel)
    .addOption(output())
    .action(async (options) => {
      const { runCreate } = await import('./local-volume.js');
      await runCreate(options as Parameters<typeof runCreate>[0]);
    });
  volumes
    .command('list')
    .description('list the block volumes that dvflow made')
    .addOption(output())
    .action(async (options) => {
      const { runList } = await import('./local-volume.js');
      await runList(options as Parameters<typeof runList>[0]);
    });
  volumes
    .command('delete <name>')
    .description('remove a block volume that dvflow made, with its data; refused while a claim has it')
    .option('--node <node>', 'its node, where the PersistentVolume was deleted and the file is left')
    .action(async (name: string, options) => {
      const { runDelete } = await import('./local-volume.js');
      await runDelete(name, options as Parameters<typeof runDelete>[1]);
    });
}

/** One `key=value` more. */
export function collectLabel(text: string, before: Record<string, string> = {}): Record<string, string> {
  const at = text.indexOf('=');
  if (at < 1) throw new InvalidArgumentError('a label is key=value');
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) };
}
