/**
 * Seed of tests of random properties: the same cases every time, so that a run fails of what has changed and not of its luck. Another
 * one is chosen by `DVFLOW_FUZZ_SEED`; what looks for new cases is `npm run fuzz`.
 */
export const PROPERTY_SEED = Number(process.env['DVFLOW_FUZZ_SEED'] ?? 1);
