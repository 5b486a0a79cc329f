/** How workers read what others send to Temporal. */
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Of the workflows, and of clients that describe and list runs: a memo that cannot be read is no reason to see none of them. */
export const dataConverter = {
  // run from `lib/`, also as a part of the bundled program, which lies as deep as this file; by tests from the sources
  payloadConverterPath: fileURLToPath(
    new URL(`../../workflows/payload-converter${extname(import.meta.url)}`, import.meta.url),
  ),
};
