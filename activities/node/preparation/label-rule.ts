/** The rule that `restorecon -F` and an autorelabel go by: without one they give a directory its policy's default type again. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runTool } from '../../image/tools.js';
import type { LabelRule } from '../../types/preparation.js';
import { codeOf, undefinedIfAbsent } from '../directories.js';
import { CONTAINER_TYPE, typeOf } from './selinux.js';

/** Where the rules are kept, and the tool that writes them. */
export interface LabelRuleOptions {
  /** @default '/etc/selinux' */
  readonly etc?: string;
  /** @default 'semanage' */
  readonly semanage?: string;
  readonly signal?: AbortSignal;
}

/**
 * Makes sure that the policy's own rules name the directory and all below it. Judged by the file that `semanage` writes, before and
 * after: a tool that says it has done something is not believed, and one that fails keeps no node from its volumes.
 */
export async function ensureLabelRule(
  path: string,
  { etc = '/etc/selinux', semanage = 'semanage', signal }: LabelRuleOptions = {},
): Promise<LabelRule> {
  const pattern = `${escaped(path)}(/.*)?`;
  const before = await findRule(etc, pattern);
  if (before === CONTAINER_TYPE) return { rule: 'present', message: `rule ${pattern} is in place` };
  const action = before === undefined ? '-a' : '-m';
  const args = ['fcontext', action, '-t', CONTAINER_TYPE, pattern];
  const unavailable = (why: string): LabelRule => ({
    rule: 'unavailable',
    message: `${why}, and without the rule ${pattern} restorecon -F and an autorelabel undo the label`,
  });
  try {
    await runTool(semanage, args, signal ? { signal } : {});
  } catch (error) {
    signal?.throwIfAborted();
    if (codeOf(error) === 'ENOENT') return unavailable('there is no semanage here');
    // a store that is locked, a path that the policy takes for another's: the label itself is in place all the same
    return unavailable(error instanceof Error ? error.message : String(error));
  }
  const after = await findRule(etc, pattern);
  if (after === CONTAINER_TYPE) return { rule: 'added', message: `rule ${pattern} was added` };
  return unavailable(`semanage ${args.join(' ')} ended well, and the rule is ${after ?? 'not there'}`);
}

/** Type that the local rules give to this very pattern. */
async function findRule(etc: string, pattern: string): Promise<string | undefined> {
  const config = (await readFile(join(etc, 'config'), 'utf8').catch(undefinedIfAbsent)) ?? '';
  const policy = /^\s*SELINUXTYPE\s*=\s*(\S+)/m.exec(config)?.[1] ?? 'targeted';
  const file = join(etc, policy, 'contexts', 'files', 'file_contexts.local');
  const lines = ((await readFile(file, 'utf8').catch(undefinedIfAbsent)) ?? '').split('\n');
  // pattern, perhaps a kind of file, context; a later line goes before an earlier one
  const rules = lines.map((line) => line.trim().split(/\s+/)).filter(([first]) => first === pattern);
  return typeOf(rules.at(-1)?.at(-1) ?? '');
}

/** A path as a regular expression that means just it. */
function escaped(path: string): string {
  return path.replace(/[.^$*+?()[\]{}|\\]/g, '\\$&');
}
