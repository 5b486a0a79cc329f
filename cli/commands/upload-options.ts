import { Option, type Command } from 'commander';
import { repeated } from '../repeated.js';

/** Adds `dvflow upload`. */
export function registerUploadCommand(program: Command): void {
  program
    .command('upload <file>')
    .description(
      'upload a disk image or an archive into a DataVolume; goes on by itself after whatever breaks',
    )
    .requiredOption('--dv <name>', 'name of DataVolume and claim')
    .addOption(new Option('-n, --namespace <namespace>', 'namespace of the DataVolume').default('default'))
    .option('--size <quantity>', 'size of the disk, such as 10Gi')
    .option('--storage-class <class>', 'StorageClass of the claim')
    .option('--access-mode <mode>', 'access modes of the claim, repeatable', repeated)
    .addOption(
      new Option('--volume-mode <mode>', 'volume mode of the claim').choices(['Filesystem', 'Block']),
    )
    .option('--archive', 'the file is a tar that is unpacked')
    .option('--checksum <algorithm[:hex]>', 'verified at the end; without digits it is computed first')
    .option('--no-create', 'the DataVolume is there already')
    .option('--wait-for-consumer', 'let the first pod that uses the claim choose the node')
    .option('--uploadproxy-url <url>', 'where uploads go (default: what CDIConfig says)')
    .option('--ca-file <file>', 'certificate authorities of the upload server, in PEM')
    .option('--insecure', 'do not verify the certificate of the upload server')
    .addOption(new Option('-o, --output <format>', 'for programs: one JSON document').choices(['json']))
    .action(async (file: string, options) => {
      const { runUpload } = await import('./upload.js');
      await runUpload(file, options as Parameters<typeof runUpload>[1]);
    });
}
