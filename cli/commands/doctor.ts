import { ownVersion } from '../../workers/version.js';
import { defaultStack } from '../connections.js';
import { countLevels } from '../doctor/findings.js';
import { examineAll } from '../doctor/examine.js';
import { CliError, EXIT } from '../errors.js';
import { print, printJson } from '../output.js';
import { findingsText, summaryText } from '../render/findings.js';

/** Options of `dvflow doctor`. */
export interface DoctorOptions {
  readonly json?: boolean;
}

/**
 * Looks at Temporal, Kubernetes, the workers, their nodes and the storage, and says what is wrong, what that means and what to do.
 * @throws {@link CliError} when there is a problem; warnings are none
 */
export async function runDoctor({ json }: DoctorOptions): Promise<void> {
  const findings = await examineAll(await defaultStack());
  const summary = countLevels(findings);
  if (json) printJson({ version: ownVersion(), summary, findings });
  else print(findingsText(findings));
  if (summary.problem > 0) throw new CliError(`doctor: ${summaryText(findings)}`, EXIT.unknown);
}
