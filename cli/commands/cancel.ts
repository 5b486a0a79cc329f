import { cancel, failureOf } from '../../client/index.js';
import { withTemporal } from '../connections.js';
import { CliError, EXIT } from '../errors.js';
import { endOf } from '../follow.js';
import { print } from '../output.js';

/** Options of `dvflow cancel`. */
export interface CancelOptions {
  readonly namespace: string;
  readonly wait: boolean;
}

/** Cancels the newest run of a DataVolume; by default it returns when everything that the run made is gone. */
export async function runCancel(name: string, { namespace, wait }: CancelOptions): Promise<void> {
  await withTemporal(async (client) => {
    const run = await cancel(client, { namespace, name });
    const { workflowId } = run;
    if (!wait) return print(`asked ${workflowId} to cancel`);
    try {
      await endOf(client, run, `cancellation of ${namespace}/${name}`);
    } catch (error) {
      if (failureOf(error).type !== 'Cancelled') throw error;
      return print(`cancelled ${workflowId}: what it made is removed, DataVolume ${namespace}/${name} stays`);
    }
    throw new CliError(`${workflowId} was finished before it could be cancelled`, EXIT.unknown);
  });
}
