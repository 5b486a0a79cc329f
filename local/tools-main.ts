import { foreignEnvironment } from './environment.js';
import { stateDirectory } from './paths.js';
import { findTools } from './tools.js';

const { kubeconfig, temporalAddress } = foreignEnvironment(stateDirectory());
try {
  await findTools({ kubernetes: kubeconfig === undefined, temporal: temporalAddress === undefined }, (line) =>
    console.log(line),
  );
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
}
