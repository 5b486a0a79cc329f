import { defineUploadsAtOnce } from '../live/uploads-at-once.js';

describe('uploads at once, by other ways', function () {
  this.timeout(600_000);
  defineUploadsAtOnce('tus', 'form');
});
