/** Bundling of workflows, for workers and for tests. */
import { bundleWorkflowCode, type BundleOptions, type WorkflowBundleWithSourceMap } from '@temporalio/worker';
import { dataConverter } from './control/data-converter.js';

/** Bundles workflows with dvflow's reading of payloads, without which any argument may wedge a run: no bundle is made in another way. */
export async function bundleWorkflows(
  options: Omit<BundleOptions, 'payloadConverterPath'>,
): Promise<WorkflowBundleWithSourceMap> {
  return await bundleWorkflowCode({ ...options, ...dataConverter });
}
