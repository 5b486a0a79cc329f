/** Builds what tests need late and a cold cache lacks, beside the tests and behind them: the tests find it, or wait for it. */
import { setPriority } from 'node:os';
import { buildVirtctl, BUILT_VIRTCTL_VERSIONS } from './virtctl.js';

setPriority(10);
for (const version of BUILT_VIRTCTL_VERSIONS) await buildVirtctl(version);
