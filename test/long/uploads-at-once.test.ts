import { defineUploadsAtOnce } from '../live/uploads-at-once.js';

describe('uploads at once, by other ways', function () {
  this.timeout(600_000);
  // what a form gives are parts of what it keeps, which only the collector can give back
  defineUploadsAtOnce({ tus: 192, form: 224 });
});
