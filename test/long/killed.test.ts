import { describeKills } from '../image/support/killed-suite.js';
import { KILLED_WAYS } from '../image/support/killed-ways.js';
import { MIB } from '../image/support/images.js';

describeKills({
  ways: Object.keys(KILLED_WAYS),
  kills: 20,
  mebibytes: 192,
  everyBytes: 16 * MIB,
});
