#!/usr/bin/env node
/** Looks at the version of Node before anything is imported that needs a newer one. */
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < 22 || (major === 22 && minor < 19)) {
  process.stderr.write(
    `dvflow needs Node 22.19 or newer, this is ${process.versions.node} (${process.execPath})\n`,
  );
  process.exitCode = 2;
} else {
  // a third of what a command takes before it does anything is compiling; a directory of the user's own, since what is in it is run
  const { enableCompileCache } = await import('node:module');
  const { cacheDirectory } = await import('../local/paths.js');
  enableCompileCache(`${cacheDirectory()}/compiled`);
  const isOdd = process.argv.some((argument) => argument.includes('\ufffd'));
  const isRefused = isOdd && (await import('./arguments.js')).refuseUndecoded();
  process.exitCode = isRefused ? 2 : await (await import('./program.js')).run(process.argv);
}

export {};
