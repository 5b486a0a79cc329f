import { readFileSync } from 'node:fs';
import { findPackageJSON } from 'node:module';
import { hostname } from 'node:os';

/** Version of this dvflow, from its package.json. */
export function ownVersion(): string {
  const path = findPackageJSON(import.meta.url);
  const { version } = JSON.parse(path === undefined ? '{}' : readFileSync(path, 'utf8')) as {
    version?: string;
  };
  return version ?? 'unknown';
}

/**
 * How a worker names itself to Temporal: the UI and DescribeTaskQueue show it, and `dvflow doctor` reads the versions from it. Its
 * end is what the SDK's own default is.
 */
export function workerIdentity(): string {
  return `dvflow/${ownVersion()} node/${process.versions.node} ${process.pid}@${hostname()}`;
}

/** The versions in a worker's identity; `undefined` for one that is not dvflow's. */
export function parseIdentity(
  identity: string,
): { readonly version: string; readonly nodeVersion: string } | undefined {
  const { version, nodeVersion } =
    /^dvflow\/(?<version>\S+) node\/(?<nodeVersion>\S+) /.exec(identity)?.groups ?? {};
  return version && nodeVersion ? { version, nodeVersion } : undefined;
}
