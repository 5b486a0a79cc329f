/** The upload page: some files as they are, below `/upload/`. */
import { readFile } from 'node:fs/promises';
import { findPackageJSON } from 'node:module';
import { dirname, join } from 'node:path';
import type { FastifyInstance } from 'fastify';

/** Where the page is. */
export const PAGE_PATH = '/upload/';

/** Nothing but its own files, and its own server to talk to. */
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const TYPES = {
  'index.html': 'text/html; charset=utf-8',
  'upload.css': 'text/css; charset=utf-8',
  'upload.js': 'text/javascript; charset=utf-8',
  'tus.min.js': 'text/javascript; charset=utf-8',
} as const;

/** Serves the page. */
export function addPage(app: FastifyInstance): void {
  for (const [name, type] of Object.entries(TYPES) as [keyof typeof TYPES, string][]) {
    const path = name === 'index.html' ? PAGE_PATH : `${PAGE_PATH}${name}`;
    let text: Buffer | undefined;
    app.get(path, async ({ url }, reply) => {
      // its links are relative, so that it may lie below a prefix
      if (name === 'index.html' && !/\/(?:\?|$)/.test(url)) return reply.redirect('./upload/');
      text ??= await readFile(pathOf(name));
      return reply
        .type(type)
        .header('content-security-policy', POLICY)
        .header('referrer-policy', 'no-referrer')
        .header('x-content-type-options', 'nosniff')
        .header('cache-control', 'no-cache')
        .send(text);
    });
  }
}

/** The client of the protocol is served as its package has it; the rest lies beside the sources, also of a built dvflow. */
function pathOf(name: keyof typeof TYPES): string {
  if (name === 'tus.min.js') {
    return join(dirname(findPackageJSON('tus-js-client', import.meta.url) ?? ''), 'dist', name);
  }
  return join(dirname(findPackageJSON(import.meta.url) ?? ''), 'workers', 'gateway', 'page', name);
}
