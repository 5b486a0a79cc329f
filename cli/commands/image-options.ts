import { Option, type Command } from 'commander';
import { repeated } from '../repeated.js';
import { contentType, sourceKind } from '../source-options.js';

/** Adds `dvflow convert` and `dvflow inspect`; their code is loaded when they are called. */
export function registerImageCommands(program: Command): void {
  const source = (command: Command): Command =>
    command
      .option('--checksum <algorithm:hex>', 'checksum of the bytes as the source serves them')
      .addOption(sourceKind('SOURCE'))
      .option('--ca-file <file>', 'certificate authorities of the server, in PEM')
      .option('--insecure-skip-verify', 'do not verify certificates; registries also by plain HTTP')
      .option('--header <header>', 'request header, sent to the named server only, repeatable', repeated)
      .option('--auth-file <file>', "gs: key of a service account; docker: a docker client's config.json")
      .option('--arch <architecture>', 'docker, oci-archive: architecture to choose')
      .option('--proxy <url>', 'proxy (default: http_proxy, https_proxy)')
      .addOption(directHosts())
      .option('--denied-sources <cidr>', 'addresses that are not connected to, repeatable', repeated)
      .addOption(contentType('archive: a tar that is unpacked, TARGET is a directory'))
      .option('--json', 'for programs: one JSON document');
  source(program.command('convert <source> <target>'))
    .description('convert an image (URL or file) into a raw disk in a file or on a block device')
    .option('--scratch <directory>', 'room for a second copy, where the image cannot be streamed')
    .addOption(
      new Option(
        '--format <format>',
        'refuse an image of another format; raw: whatever it looks like',
      ).choices(['raw', 'qcow2', 'vmdk', 'vdi', 'vhd', 'vhdx']),
    )
    .option('--sha256-of-disk', 'read the disk back and print its digest')
    .option('--state <directory>', 'where the resume record is kept (default: TARGET.dvflow)')
    .action(async (from: string, to: string, options) => {
      const { runConvert } = await import('./convert.js');
      await runConvert(from, to, options as Parameters<typeof runConvert>[2]);
    });
  source(program.command('inspect <source>'))
    .description('say what an image is, how it would be read, and why')
    .action(async (from: string, options) => {
      const { runInspect } = await import('./inspect.js');
      await runInspect(from, options as Parameters<typeof runInspect>[1]);
    });
}

/** Its name begins like a negation, which it is not: commander would take it for one of `--proxy-for`. */
function directHosts(): Option {
  const option = new Option('--no-proxy-for <hosts>', 'hosts asked without the proxy (default: no_proxy)');
  option.negate = false;
  return option;
}
