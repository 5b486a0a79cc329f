import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Command } from 'commander';
import { createProgram } from '../../cli/program.js';
import { FAILURE_TYPES } from '../../activities/failures.js';
import { WORKFLOW_TYPES } from '../../workflows/workflow-types.js';
import { codeBlocks, projectPath, readDocument, tableRows } from './documents.js';

const DOCUMENTS = [
  'README.md',
  'docs/operations.md',
  'docs/architecture.md',
  'docs/failures.md',
  'docs/engine.md',
];
const commands = DOCUMENTS.flatMap((document) => codeBlocks(readDocument(document), 'bash'))
  .flatMap((block) => block.split('\n'))
  .map((line) => line.replace(/\s+#.*$/, '').trim())
  .filter((line) => line !== '');

/** Resolves a command line of dvflow as commander would, without running it. */
function resolve(line: string): { command: Command; rest: readonly string[] } {
  let command = createProgram();
  let rest = line.split(/\s+/);
  for (let next: Command | undefined; (next = command.commands.find((child) => child.name() === rest[0]));) {
    [command, rest] = [next, rest.slice(1)];
  }
  return { command, rest };
}

describe('commands in the documents', () => {
  const dvflow = commands.flatMap((line) =>
    [...line.matchAll(/npx dvflow ([^")]+)/g)].map(([, rest = '']) => rest.trim()),
  );

  it('are there', () => assert.ok(dvflow.length >= 8, `${dvflow.length} command lines of dvflow`));

  for (const line of dvflow) {
    it(`dvflow ${line}`, () => {
      const { command, rest } = resolve(line);
      assert.deepEqual(command.commands, [], `${command.name()} needs a subcommand`);
      const { unknown, operands } = command.parseOptions([...rest]);
      assert.deepEqual(unknown, []);
      const required = command.registeredArguments.filter((argument) => argument.required);
      assert.ok(operands.length >= required.length && operands.length <= command.registeredArguments.length);
      for (const option of command.options.filter(({ mandatory }) => mandatory)) {
        assert.ok(command.getOptionValue(option.attributeName()) !== undefined, `${option.flags} is missing`);
      }
    });
  }

  it('run scripts that package.json has', () => {
    const { scripts } = JSON.parse(readDocument('package.json')) as { scripts: Record<string, string> };
    const used = commands
      .flatMap((line) => /^npm (?:run )?(\S+)/.exec(line)?.[1] ?? [])
      .filter((name) => name !== 'ci');
    assert.ok(used.length >= 4);
    for (const name of used) assert.ok(name in scripts, `npm run ${name}`);
  });

  it('name manifests that exist', () => {
    const used = commands.flatMap((line) => [...line.matchAll(/-[fk] (\S+)/g)].map(([, path = '']) => path));
    assert.ok(used.length >= 4);
    for (const path of used) assert.ok(existsSync(projectPath(path)), path);
  });
});

describe('README', () => {
  const readme = readDocument('README.md');

  it('lists each workflow of the bundle once', () => {
    const listed = tableRows(readme, 'workflow').map(([name]) => name);
    assert.deepEqual(listed.sort(), [...WORKFLOW_TYPES].sort());
  });

  it('names only failure types that exist', () => {
    const named = tableRows(readme, 'workflow').flatMap(
      ([, , , types = '']) => types.match(/\b[A-Z]\w+[a-z][A-Z]\w+\b/g) ?? [],
    );
    assert.ok(named.length >= 5);
    for (const type of named) assert.ok(type in FAILURE_TYPES, type);
  });

  it('shows the example program as it is compiled and run by the tests', () => {
    assert.deepEqual(codeBlocks(readme, 'ts'), [readDocument('test/docs/start-import.ts')]);
  });

  it('shows a manifest with a name and one source', () => {
    const [manifest = ''] = codeBlocks(readme, 'json');
    const { metadata, spec } = JSON.parse(manifest) as {
      metadata: { name: string };
      spec: { source: object };
    };
    assert.equal(metadata.name, 'my-disk');
    assert.deepEqual(Object.keys(spec.source), ['http']);
  });

  it('needs no more than six commands to start', () => {
    const quick = readme.slice(readme.indexOf('## Quick start'), readme.indexOf('## What it does'));
    const lines = codeBlocks(quick, 'bash').flatMap((block) => block.trim().split('\n'));
    assert.ok(lines.length <= 6, lines.join('; '));
  });
});

describe('links of the documents', () => {
  for (const document of [...DOCUMENTS, 'CHANGELOG.md']) {
    it(`of ${document} lead somewhere`, () => {
      const links = [...readDocument(document).matchAll(/\]\((?!https?:)([^)#]+)/g)].map(
        ([, path = '']) => path,
      );
      for (const path of links) assert.ok(existsSync(projectPath(join(dirname(document), path))), path);
    });
  }

  it('name no file of the tree that is not there', () => {
    const named = DOCUMENTS.flatMap((document) => [
      ...readDocument(document).matchAll(
        /`((?:deploy|docs|workflows|activities|local|cli|client)\/[\w./-]*)`/g,
      ),
    ]);
    assert.ok(named.length >= 8);
    for (const [, path = ''] of named) assert.ok(existsSync(projectPath(path)), path);
  });
});
