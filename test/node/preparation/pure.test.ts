import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mountOf, parseMounts } from '../../../activities/node/preparation/os-partition.js';
import {
  containerLabel,
  describeLabel,
  isContainerLabel,
  selinuxMode,
} from '../../../activities/node/preparation/selinux.js';

describe('SELinux labels', () => {
  const rows: readonly [label: string | undefined, fits: boolean, becomes: string][] = [
    // made by an administrator, and by a systemd unit: the type decides, not the whole
    ['unconfined_u:object_r:container_file_t:s0', true, 'unconfined_u:object_r:container_file_t:s0'],
    ['system_u:object_r:container_file_t:s0', true, 'system_u:object_r:container_file_t:s0'],
    ['system_u:object_r:svirt_sandbox_file_t:s0', true, 'system_u:object_r:container_file_t:s0'],
    ['system_u:object_r:container_file_t:s0:c1,c2', true, 'system_u:object_r:container_file_t:s0:c1,c2'],
    ['unconfined_u:object_r:var_t:s0', false, 'unconfined_u:object_r:container_file_t:s0'],
    ['system_u:object_r:var_t:s0-s0:c0.c1023', false, 'system_u:object_r:container_file_t:s0-s0:c0.c1023'],
    ['user_u:container_file_t:var_t', false, 'user_u:container_file_t:container_file_t'],
    [undefined, false, 'system_u:object_r:container_file_t:s0'],
    ['nonsense', false, 'system_u:object_r:container_file_t:s0'],
    ['', false, 'system_u:object_r:container_file_t:s0'],
  ];
  for (const [label, fits, becomes] of rows) {
    it(`${label ?? 'no label'} ${fits ? 'fits' : 'does not fit'}, and becomes ${becomes}`, () => {
      assert.equal(isContainerLabel(label), fits);
      assert.equal(containerLabel(label), becomes);
    });
  }

  it('says which label there is and which is needed', () => {
    assert.equal(
      describeLabel('system_u:object_r:var_t:s0'),
      'has the SELinux label system_u:object_r:var_t:s0 and needs the type container_file_t',
    );
    assert.match(describeLabel(undefined), /has no SELinux label and needs the type container_file_t/);
    assert.doesNotMatch(describeLabel('a:b:container_file_t:s0'), /needs/);
  });
});

describe('selinuxMode', () => {
  let directory: string;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'dvflow-selinuxfs-'));
  });
  after(() => rm(directory, { recursive: true }));

  it('reads enforcing and permissive, and takes an empty or absent mount point for disabled', async () => {
    assert.equal(await selinuxMode(directory), 'disabled');
    assert.equal(await selinuxMode(join(directory, 'not-there')), 'disabled');
    for (const [text, mode] of [
      ['1', 'enforcing'],
      ['0', 'permissive'],
      ['1\n', 'enforcing'],
    ] as const) {
      await writeFile(join(directory, 'enforce'), text);
      assert.equal(await selinuxMode(directory), mode);
    }
  });
});

describe('the mounts of a node', () => {
  const text = [
    '22 1 253:0 / / rw,relatime shared:1 - xfs /dev/mapper/root rw',
    '30 22 253:4 / /var rw - xfs /dev/mapper/var rw',
    '31 30 8:17 / /var/hp\\040volumes rw - ext4 /dev/sdb1 rw',
    '40 22 0:45 /@a /data rw - btrfs /dev/sdc rw',
    '41 40 0:45 /@b /data/b rw - btrfs /dev/sdc rw',
    '42 22 8:33 / /over rw - ext4 /dev/sdd1 rw',
    '43 42 8:34 / /over rw - ext4 /dev/sde1 rw',
    '',
  ].join('\n');
  const mounts = parseMounts(text);
  const rows: readonly [path: string, device: string, point: string][] = [
    ['/', '253:0', '/'],
    ['/usr', '253:0', '/'],
    ['/variable', '253:0', '/'],
    ['/var/hpvolumes', '253:4', '/var'],
    ['/var/hp volumes/pool', '8:17', '/var/hp volumes'],
    ['/data/b/pool', '0:45', '/data/b'],
    // the later mount hides the earlier one
    ['/over/pool', '8:34', '/over'],
  ];
  for (const [path, device, point] of rows) {
    it(`${path} lies on ${device}, mounted at ${point}`, () => {
      assert.deepEqual(mountOf(path, mounts), { device, point });
    });
  }
});
