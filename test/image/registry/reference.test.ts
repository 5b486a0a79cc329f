import assert from 'node:assert/strict';
import { failureTypeOf } from '../../../activities/failures.js';
import { parseReference, type DockerReference } from '../../../activities/image/registry/reference.js';

const HEX = 'a'.repeat(64);

describe('registry references', () => {
  for (const [url, host, repository, version, display] of [
    [
      'docker://fedora',
      'registry-1.docker.io',
      'library/fedora',
      'latest',
      'docker://docker.io/library/fedora:latest',
    ],
    [
      'docker://fedora:41',
      'registry-1.docker.io',
      'library/fedora',
      '41',
      'docker://docker.io/library/fedora:41',
    ],
    [
      'docker://kubevirt/fedora',
      'registry-1.docker.io',
      'kubevirt/fedora',
      'latest',
      'docker://docker.io/kubevirt/fedora:latest',
    ],
    [
      'docker://docker.io/fedora',
      'registry-1.docker.io',
      'library/fedora',
      'latest',
      'docker://docker.io/library/fedora:latest',
    ],
    [
      'docker://index.docker.io/a/b',
      'registry-1.docker.io',
      'a/b',
      'latest',
      'docker://docker.io/a/b:latest',
    ],
    [
      'docker://quay.example/a/b-c/d__e.f:v1.0_x',
      'quay.example',
      'a/b-c/d__e.f',
      'v1.0_x',
      'docker://quay.example/a/b-c/d__e.f:v1.0_x',
    ],
    ['docker://localhost/a', 'localhost', 'a', 'latest', 'docker://localhost/a:latest'],
    ['docker://localhost:5000/a', 'localhost:5000', 'a', 'latest', 'docker://localhost:5000/a:latest'],
    ['docker://Registry/a', 'registry', 'a', 'latest', 'docker://registry/a:latest'],
    ['docker://[::1]:5000/a/b:c', '[::1]:5000', 'a/b', 'c', 'docker://[::1]:5000/a/b:c'],
    [
      `docker://q.example/a@sha256:${HEX}`,
      'q.example',
      'a',
      `sha256:${HEX}`,
      `docker://q.example/a@sha256:${HEX}`,
    ],
    [
      `docker://q.example/a:t@sha256:${HEX}`,
      'q.example',
      'a',
      `sha256:${HEX}`,
      `docker://q.example/a@sha256:${HEX}`,
    ],
    [' docker://a ', 'registry-1.docker.io', 'library/a', 'latest', 'docker://docker.io/library/a:latest'],
  ] as const)
    it(`${url} is ${display}`, () => {
      const reference = parseReference(url) as DockerReference;
      assert.deepEqual(
        [reference.host, reference.repository, reference.version, reference.display],
        [host, repository, version, display],
      );
    });

  for (const url of [
    '',
    'docker:',
    'docker://',
    'docker://UPPER',
    'docker://q.example/Upper',
    'docker://q.example/',
    'docker://q.example//a',
    'docker://q.example/a/',
    'docker://q.example/a:',
    `docker://q.example/a:${'t'.repeat(129)}`,
    'docker://q.example/a:-t',
    'docker://q.example/a@sha256:abc',
    `docker://q.example/a@md5:${HEX}`,
    'docker://me:pass-word@q.example/a',
    'docker://q.example/a?pass-word',
    'docker://q.example/a#pass-word',
    'docker://q.example/../a',
    'docker://q.example/a/../../v2',
    'docker://q.exa mple/a',
    'docker://-q.example/a',
    'docker://q.example:port/a',
    `docker://q.example/${'a/'.repeat(200)}a`,
    'https://q.example/a',
    'oci-archive:',
    'oci-archive::name',
    'oci-archive:path:',
  ])
    it(`refuses ${JSON.stringify(url.slice(0, 60))} without quoting it`, () => {
      assert.throws(
        () => parseReference(url),
        (error: Error) => failureTypeOf(error) === 'InvalidDataVolume' && !/pass-word/u.test(error.message),
      );
    });

  it('reads the path and the name of an archive', () => {
    assert.deepEqual(parseReference('oci-archive:/tmp/a.tar'), {
      kind: 'oci-archive',
      path: '/tmp/a.tar',
      display: 'oci-archive:/tmp/a.tar',
    });
    assert.deepEqual(parseReference('oci-archive:a.tar:quay.example/a:v1'), {
      kind: 'oci-archive',
      path: 'a.tar',
      name: 'quay.example/a:v1',
      display: 'oci-archive:a.tar:quay.example/a:v1',
    });
  });
});
