import assert from 'node:assert/strict';
import { checkPools, checkProvisioners } from '../../../cli/doctor/checks/pools.js';
import { levels } from './findings.js';

describe('doctor: pools', () => {
  const check = (pool: object) =>
    checkPools({
      value: {
        pools: [],
        nodes: [
          {
            node: 'n',
            report: {
              node: 'n',
              version: '',
              nodeVersion: '',
              root: true,
              pools: [{ path: '/p', state: 'usable', totalBytes: 1000, roomBytes: 900, ...pool }],
            },
          },
        ],
      },
    })[0];

  it('with room on a file system of their own are well', () => assert.equal(check({})?.level, 'ok'));
  it('whose books are not read in time are well, and their room is not told', () => {
    const finding = check({ roomBytes: undefined });
    assert.equal(finding?.level, 'ok');
    assert.match(finding?.found ?? '', /books take too long to read/);
  });
  it('nearly full, or shared with the operating system, are warnings', () => {
    assert.match(check({ roomBytes: 50 })?.means ?? '', /InsufficientCapacity/);
    assert.match(
      check({ sharedWithOs: true })?.found ?? '',
      /shares a file system with the operating system/,
    );
  });
  it('with a label that keeps virtual machines out are a problem where it is enforced', () => {
    const level = (mode: string, labelled: boolean) =>
      check({ selinux: { mode, labelled, message: 'has the label var_t' } })?.level;
    assert.equal(level('enforcing', false), 'problem');
    assert.equal(level('permissive', false), 'warning');
    assert.equal(level('enforcing', true), 'ok');
    assert.equal(level('disabled', true), 'ok');
  });

  it('that are absent or unusable are problems', () => {
    assert.match(check({ state: 'absent' })?.todo ?? '', /mkdir -p \/p/);
    assert.equal(check({ state: 'unusable', message: 'EACCES' })?.found, 'EACCES');
  });

  it("a HostPathProvisioner's own conditions are told", () => {
    const provisioner = (type: string, status: string) => ({
      metadata: { name: 'h' },
      spec: { pathConfig: { path: '/p' } },
      status: { conditions: [{ type, status, reason: 'R', message: 'why' }] },
    });
    const level = (type: string, status: string) =>
      checkProvisioners({ value: [provisioner(type, status)] }).map((finding) => finding.level);
    assert.deepEqual(level('Degraded', 'True'), ['problem']);
    assert.deepEqual(level('Available', 'False'), ['warning']);
    assert.deepEqual(level('Progressing', 'True'), ['warning']);
    assert.deepEqual(level('Available', 'True'), ['ok']);
    const ready = provisioner('Available', 'True');
    for (const [title, one] of [
      ['nobody has looked at it', { ...ready, status: {} }],
      ['it has no status at all', { metadata: ready.metadata, spec: ready.spec }],
      [
        'it was changed since',
        {
          ...ready,
          metadata: { name: 'h', generation: 2 },
          status: { ...ready.status, observedGeneration: 1 },
        },
      ],
    ] as const) {
      const [finding] = checkProvisioners({ value: [one] });
      assert.equal(finding?.level, 'warning', title);
    }
    const current = { ...ready.status, observedGeneration: 2 };
    const judged = { ...ready, metadata: { name: 'h', generation: 2 }, status: current };
    assert.deepEqual(
      checkProvisioners({ value: [judged] }).map((finding) => finding.level),
      ['ok'],
    );
    assert.deepEqual(levels(checkProvisioners({ value: [] })), ['problem HostPathProvisioner']);
  });
});
