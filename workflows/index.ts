export { examineNodes } from './examine-nodes.js';
export { importDataVolume } from './import-data-volume.js';
export { reclaimVolume } from './reclaim-volume.js';
export { sweep } from './sweep.js';
