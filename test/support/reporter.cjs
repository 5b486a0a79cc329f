/** Mocha's spec reporter, closed by the one line that CI and people read: `N passed, N failed, N skipped`. */
// eslint-disable-next-line @typescript-eslint/no-require-imports -- mocha loads its reporters by require
const { reporters } = require('mocha');

module.exports = class Reporter extends reporters.Spec {
  constructor(runner, options) {
    super(runner, options);
    process.once('SIGTERM', () => this.endCutOff(runner));
  }

  epilogue() {
    super.epilogue();
    this.close();
  }

  /** A run that takes too long is ended by SIGTERM: what it was at counts as failed, and what failed before is listed. */
  endCutOff(runner) {
    this.stats.duration = Date.now() - this.stats.start;
    super.epilogue();
    console.log(`cut off in: ${runner.currentRunnable?.fullTitle() ?? runner.suite.fullTitle()}`);
    this.stats.failures += 1;
    this.close();
    process.exit(1);
  }

  close() {
    const { passes, failures, pending } = this.stats;
    console.log(`${passes} passed, ${failures} failed, ${pending} skipped`);
  }
};
