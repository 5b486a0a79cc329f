/** Mocha's spec reporter, closed by the one line that CI and people read: `N passed, N failed, N skipped`. */
// eslint-disable-next-line @typescript-eslint/no-require-imports -- mocha loads its reporters by require
const { reporters } = require('mocha');

module.exports = class Reporter extends reporters.Spec {
  epilogue() {
    super.epilogue();
    const { passes, failures, pending } = this.stats;
    console.log(`${passes} passed, ${failures} failed, ${pending} skipped`);
  }
};
