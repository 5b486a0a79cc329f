/** Every type of workflow, as `index.ts` exports them. */
export const WORKFLOW_TYPES = [
  'blankDataVolume',
  'cloneDataVolume',
  'deleteLocalBlockVolume',
  'examineNodes',
  'importDataVolume',
  'localBlockVolume',
  'prepareStorage',
  'provisionVolume',
  'publishCapacity',
  'recheckNode',
  'reclaimVolume',
  'returnReservedVolume',
  'sweep',
  'uploadClaim',
  'uploadDataVolume',
] as const;
