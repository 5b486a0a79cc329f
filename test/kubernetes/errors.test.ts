import assert from 'node:assert/strict';
import { ApiException } from '@kubernetes/client-node';
import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import { kubernetesFailure } from '../../activities/kubernetes/errors.js';
import type { FailureType } from '../../activities/types.js';

const status = (code: number, message: string, reason = ''): ApiException<string> =>
  new ApiException(code, 'secret header', JSON.stringify({ kind: 'Status', message, reason }), {
    token: 'hunter2',
  });

describe('errors of the Kubernetes API', () => {
  const denied = 'User "x" cannot create resource "persistentvolumeclaims" in API group ""';
  const rows: [string, Error, FailureType, 'permanent' | 'retried', RegExp][] = [
    [
      '422',
      status(422, 'spec: Invalid value: x'),
      'InvalidDataVolume',
      'permanent',
      /^creating x: spec: Invalid value: x$/,
    ],
    ['400', status(400, 'strict decoding error'), 'InvalidDataVolume', 'permanent', /strict decoding/],
    [
      '403 by quota',
      status(403, 'exceeded quota: q, requested: 1Gi'),
      'ExceededQuota',
      'retried',
      /exceeded quota/,
    ],
    [
      '403 by a quota that is not counted yet',
      status(403, 'status unknown for quota: q, resources: requests.storage'),
      'ExceededQuota',
      'retried',
      /status unknown/,
    ],
    [
      '403 by a LimitRange',
      status(
        403,
        'persistentvolumeclaims "x" is forbidden: maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi',
      ),
      'InvalidDataVolume',
      'permanent',
      /1Gi, but request is 2Gi/,
    ],
    [
      '403 by admission that has just started',
      status(403, 'persistentvolumeclaims "x" is forbidden: not yet ready to handle request'),
      'KubernetesUnavailable',
      'retried',
      /not yet ready/,
    ],
    ['403 by RBAC', status(403, denied), 'KubernetesUnavailable', 'retried', /cannot create resource/],
    [
      '403 by a policy',
      status(403, "ValidatingAdmissionPolicy 'p' denied request: no"),
      'NotAuthorized',
      'permanent',
      /denied request/,
    ],
    [
      '404 of a namespace',
      status(404, 'namespaces "a" not found', 'NotFound'),
      'InvalidDataVolume',
      'permanent',
      /namespaces "a" not found/,
    ],
    [
      '404 of a path',
      new ApiException(404, '', '404 page not found\n', {}),
      'KubernetesUnavailable',
      'retried',
      /not served \(yet\)/,
    ],
    ['401', status(401, 'Unauthorized'), 'KubernetesUnavailable', 'retried', /Unauthorized/],
    ['409', status(409, 'the object has been modified'), 'KubernetesUnavailable', 'retried', /modified/],
    ['429', status(429, 'too many requests'), 'KubernetesUnavailable', 'retried', /too many/],
    ['500', status(500, 'etcdserver: leader changed'), 'KubernetesUnavailable', 'retried', /leader changed/],
    [
      '503 in plain text',
      new ApiException(503, '', 'apiserver is shutting down', {}),
      'KubernetesUnavailable',
      'retried',
      /HTTP 503/,
    ],
    [
      'a reset',
      Object.assign(new TypeError('fetch failed'), { cause: new Error('read ECONNRESET') }),
      'KubernetesUnavailable',
      'retried',
      /^creating x: read ECONNRESET$/,
    ],
    [
      'a timeout',
      new DOMException('The operation timed out', 'TimeoutError'),
      'KubernetesUnavailable',
      'retried',
      /timed out/,
    ],
  ];
  for (const [what, error, type, kind, message] of rows) {
    it(`${what} is ${type}, ${kind}`, () => {
      const failure = kubernetesFailure(error, 'creating x');
      assert.ok(failure instanceof ApplicationFailure);
      assert.equal(failure.type, type);
      assert.equal(failure.nonRetryable, kind === 'permanent');
      assert.match(failure.message, message);
      assert.doesNotMatch(`${failure.message} ${failure.cause?.message}`, /hunter2|secret header/);
    });
  }

  it('leaves failures and cancellation as they are', () => {
    for (const error of [
      ApplicationFailure.create({ type: 'ClaimLost' }),
      new CancelledFailure('cancelled'),
    ]) {
      assert.equal(kubernetesFailure(error, 'x'), error);
    }
  });
});
