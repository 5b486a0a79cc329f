import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { apart, runDvflow } from './command.js';

describe('the program', function () {
  this.timeout(100_000);
  let home: string;

  before(() => {
    home = mkdtempSync(join(tmpdir(), 'dvflow-cli-'));
  });
  after(() => rmSync(home, { recursive: true }));

  const dvflow = (args: readonly string[], env: NodeJS.ProcessEnv = {}) =>
    runDvflow(args, { env: { ...apart(home), ...env }, timeoutMs: 90_000 });

  it('explains itself and every command', () => {
    const { status, stdout } = dvflow(['--help']);
    assert.equal(status, 0);
    for (const command of [
      'import',
      'upload',
      'blank',
      'clone',
      'get',
      'describe',
      'cancel',
      'retry',
      'worker',
      'local',
      'demo',
    ]) {
      assert.match(stdout, new RegExp(`^  ${command}\\b`, 'm'));
    }
  });

  it('tells its version', () => {
    const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
    assert.equal(dvflow(['--version']).stdout, `${version}\n`);
  });

  for (const [args, message] of [
    [['impor'], /unknown command 'impor'[\s\S]*Did you mean import/],
    [['import', 'http://x/a', '--size', '1Gi'], /required option '--name <name>' not specified/],
    [['import', 'http://x/a', '--name', 'a'], /required option '--size <quantity>' not specified/],
    [
      ['import', 'http://x/a', '--name', 'a', '--size', '1Gi', '--storage', '--pvc'],
      /'--storage' cannot be used with option '--pvc'/,
    ],
    [['clone', 'a/b'], /required option '--name <name>' not specified/],
    [['clone', 'a/b/c', '--name', 'x'], /'a\/b\/c' is no source: give NAME or NAMESPACE\/NAME/],
    [['get', '--output', 'yaml'], /Allowed choices are json/],
    [['demo', '--checksum', 'md5:00'], /--checksum needs --url/],
    [['describe'], /missing required argument 'name'/],
    [['local-volume', 'create', '--node', 'n', '--size', '2Gi'], /required option '--block' not specified/],
    [
      ['local-volume', 'create', '--node', 'n', '--size', '2Gi', '--block', '--label', 'x'],
      /a label is key=value/,
    ],
    [['local-volume', 'delete'], /missing required argument 'name'/],
    [['worker', 'gateways'], /unknown command 'gateways'|too many arguments/],
  ] as const) {
    it(`refuses '${args.join(' ')}' with 2`, () => {
      const { status, stderr } = dvflow(args);
      assert.match(stderr, message);
      assert.equal(status, 2);
    });
  }

  it('says in one line that Temporal does not answer, and where', () => {
    const { status, stderr } = dvflow(['describe', 'vm1'], { TEMPORAL_ADDRESS: '127.0.0.1:1' });
    assert.match(stderr, /^dvflow: Temporal does not answer at 127\.0\.0\.1:1: .*\n$/);
    assert.equal(status, 7);
  });

  for (const [args, code] of [
    [['convert', 'none.qcow2', 'disk.img', '--json'], 3],
    [['inspect', 'none.qcow2', '--json'], 3],
    [['upload', 'none.qcow2', '--dv', 'vm1', '-o', 'json'], 2],
    [['get', '-A', '-o', 'json'], 7],
    [['describe', 'vm1', '--output=json'], 7],
    [['clone', 'a/b/c', '--name', 'x', '-ojson'], 2],
    [['local-volume', 'list', '-o', 'json'], 7],
    [['import', 'http://u:p@x/y', '--name', 'x', '--size', '1Gi', '-o', 'json'], 7],
  ] as const)
    it(`tells of its failure in JSON where it was asked for: ${args.join(' ')}`, () => {
      const { status, stdout, stderr } = dvflow([...args], { TEMPORAL_ADDRESS: '127.0.0.1:1' });
      assert.equal(`dvflow: ${(JSON.parse(stdout) as { failure: string }).failure}\n`, stderr);
      assert.equal(status, code);
    });

  for (const args of [
    ['get', '-o', 'json', '--bogus'],
    ['get', '--bogus', '--output=json'],
    ['inspect', '--json'],
    ['describe', '-ojson'],
  ])
    it(`tells in JSON what is wrong with a command line: ${args.join(' ')}`, () => {
      const { status, stdout, stderr } = dvflow(args);
      const { failure } = JSON.parse(stdout) as { failure: string };
      assert.ok(stderr.startsWith(`error: ${failure}\n`), `${stdout}${stderr}`);
      assert.equal(status, 2);
    });

  it('prints one JSON document where what was found is a failure', () => {
    const { status, stdout } = dvflow(['doctor', '--json'], { TEMPORAL_ADDRESS: '127.0.0.1:1' });
    assert.ok((JSON.parse(stdout) as { summary: { problem: number } }).summary.problem > 0);
    assert.equal(status, 1);
  });

  it('prints no JSON for a failure where none was asked for', () => {
    assert.equal(dvflow(['clone', 'a/b/c', '--name', 'json']).stdout, '');
    assert.equal(dvflow(['get', '-o', 'yaml']).stdout, '');
  });

  it('adds the stack for --debug', () => {
    const { stderr } = dvflow(['describe', 'vm1', '--debug'], { TEMPORAL_ADDRESS: '127.0.0.1:1' });
    assert.match(stderr, /CliError: Temporal does not answer[\s\S]*\n {4}at [\s\S]*caused by: /);
  });

  it('says in one line that no cluster is named', () => {
    const { status, stderr } = dvflow(['get']);
    assert.equal(stderr, 'dvflow: no cluster: set KUBECONFIG, or start a local stack: dvflow local up\n');
    assert.equal(status, 7);
  });

  it('says in one line that the kubeconfig does not exist', () => {
    const { status, stderr } = dvflow(['get'], { KUBECONFIG: join(home, 'none.yaml') });
    assert.match(stderr, /^dvflow: kubeconfig: .*none\.yaml'\n$/);
    assert.equal(status, 2);
  });

  it('refuses to run the demo against a cluster that it was not told to use', () => {
    const { status, stderr } = dvflow(['demo', '--once'], { KUBECONFIG: '/etc/somebody/kubeconfig' });
    assert.match(stderr, /KUBECONFIG=\/etc\/somebody\/kubeconfig .*DVFLOW_USE_CLUSTER=1/);
    assert.notEqual(status, 0);
  });
});
