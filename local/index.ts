export { refuseForeign } from './environment.js';
export { BUSYBOX_IMAGE } from './nodes/images.js';
export { machinePath } from './nodes/paths.js';
export { nodesRefusal } from './nodes/requirements.js';
export type { LocalNode } from './nodes/types.js';
export { stateDirectory } from './paths.js';
export { restartProcess, stackDown, stackUp, startProcess } from './stack.js';
export { killProcess, processPid, stackStatus, type ProcessStatus, type StackStatus } from './status.js';
export type { Log, Ports, ProcessName, StackInfo, StackOptions } from './types.js';
