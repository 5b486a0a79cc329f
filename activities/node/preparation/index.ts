import { Context } from '@temporalio/activity';
import type { PreparationNodeActivities } from '../../preparation-interfaces.js';
import type { LabelProgress, LabelResult, LabelRule } from '../../types/preparation.js';
import {
  ensureBackingDirectory,
  openBackingDirectory,
  preparationFailure,
  verifyBackingDirectory,
  type PreparationContext,
} from './backing-directory.js';
import { ensureLabelRule, type LabelRuleOptions } from './label-rule.js';
import { labelTree } from './label-tree.js';
import { selinuxMode } from './selinux.js';
import { openLabelAccess } from './xattr.js';

/** Entries that one call labels before it hands over to the next: about a minute of work. */
const MAX_ENTRIES = 1_000_000;

/** What a test sets otherwise. */
export interface PreparationOptions extends PreparationContext {
  /** @default 1_000_000 */
  readonly maxEntries?: number | undefined;
  readonly rules?: LabelRuleOptions | undefined;
}

/** Activities of `prepareStorage` on one node. */
export function createPreparationActivities(options: PreparationOptions): PreparationNodeActivities {
  const { node, selinuxfs, maxEntries = MAX_ENTRIES, rules } = options;

  async function labelBackingDirectory(input: { path: string; after?: LabelProgress }): Promise<LabelResult> {
    const { path } = input;
    if ((await selinuxMode(selinuxfs)) === 'disabled') return { ...nothing(input.after), complete: true };
    const activity = Context.current();
    // what an attempt that died has done need not be looked at again
    const details = activity.info.heartbeatDetails as LabelProgress | undefined;
    try {
      await using root = await openBackingDirectory(path, node);
      return await labelTree(root, {
        labels: openLabelAccess(),
        after: details ?? input.after,
        maxEntries,
        signal: activity.cancellationSignal,
        beat: (progress) => activity.heartbeat(progress),
      });
    } catch (error) {
      throw await preparationFailure(error, { doing: `label ${path}`, path, context: options });
    }
  }

  return {
    ensureBackingDirectory: async (input) => await ensureBackingDirectory(input, options),
    labelBackingDirectory,
    async ensureLabelRule({ path }): Promise<LabelRule> {
      if ((await selinuxMode(selinuxfs)) === 'disabled')
        return { rule: 'unavailable', message: 'SELinux is disabled' };
      try {
        return await ensureLabelRule(path, { ...rules, signal: Context.current().cancellationSignal });
      } catch (error) {
        throw await preparationFailure(error, {
          doing: `read the rules for ${path}`,
          path,
          context: options,
        });
      }
    },
    verifyBackingDirectory: async (input) => await verifyBackingDirectory(input, options),
  };
}

function nothing(after: LabelProgress | undefined): LabelProgress {
  return after ?? { examined: 0, changed: 0, tooDeep: 0 };
}
