import { Option } from 'commander';

/** `--source`, for an address that does not tell its kind by itself. */
export const sourceKind = (argument: string): Option =>
  new Option('--source <kind>', `kind of ${argument} where its address does not tell`).choices([
    'http',
    's3',
    'gcs',
    'registry',
  ]);

/** `--content-type`, CDI's. */
export const contentType = (description: string): Option =>
  new Option('--content-type <type>', description).choices(['kubevirt', 'archive']);
