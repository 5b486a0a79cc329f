import { defineUploadsAtOnce } from './uploads-at-once.js';

describe('uploads at once', function () {
  this.timeout(600_000);
  defineUploadsAtOnce('post');
});
