import { cases } from '../support/breadth.js';
import { describeKills } from './support/killed-suite.js';
import { MIB } from './support/images.js';

// one of each mechanism to go on by; the others are in test/long
describeKills({
  ways: [
    'qcow2 by ranges',
    'qcow2 in one pass',
    'qcow2 in gz',
    'raw in xz of several blocks',
    'raw in gz of several members',
    'VMDK by ranges',
    'VDI from scratch space',
  ],
  kills: cases(1, 3),
  mebibytes: 72,
  everyBytes: 8 * MIB,
});
