export { deleteLocalBlockVolume } from './delete-local-block-volume.js';
export { examineNodes } from './examine-nodes.js';
export { importDataVolume } from './import-data-volume.js';
export { localBlockVolume } from './local-block-volume.js';
export { provisionVolume } from './provision-volume.js';
export { publishCapacity } from './publish-capacity.js';
export { reclaimVolume } from './reclaim-volume.js';
export { sweep } from './sweep.js';
