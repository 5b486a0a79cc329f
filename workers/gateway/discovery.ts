/** What a client of Kubernetes asks before it uses an API: groups, versions, resources, and the schema of the one kind. */
import { UPLOAD_GROUP, UPLOAD_RESOURCE, UPLOAD_VERSIONS } from './upload-token-requests.js';

const versions = UPLOAD_VERSIONS.map((version) => ({ groupVersion: `${UPLOAD_GROUP}/${version}`, version }));

/** `GET /apis/upload.cdi.kubevirt.io`. */
export const API_GROUP = {
  kind: 'APIGroup',
  apiVersion: 'v1',
  name: UPLOAD_GROUP,
  versions,
  preferredVersion: versions[0],
} as const;

/** `GET /apis`. */
export const API_GROUP_LIST = { kind: 'APIGroupList', apiVersion: 'v1', groups: [API_GROUP] } as const;

/** `GET /`. */
export const ROOT_PATHS = {
  paths: [
    '/apis',
    `/apis/${UPLOAD_GROUP}`,
    ...UPLOAD_VERSIONS.map((version) => `/apis/${UPLOAD_GROUP}/${version}`),
    '/healthz',
    '/openapi/v2',
  ],
};

/** `GET /apis/upload.cdi.kubevirt.io/<version>`; short names as CDI's. */
export function resourceList(version: string): object {
  return {
    kind: 'APIResourceList',
    apiVersion: 'v1',
    groupVersion: `${UPLOAD_GROUP}/${version}`,
    resources: [
      {
        name: UPLOAD_RESOURCE,
        singularName: 'uploadtokenrequest',
        namespaced: true,
        group: UPLOAD_GROUP,
        version,
        kind: 'UploadTokenRequest',
        verbs: ['create'],
        shortNames: ['utr', 'utrs'],
      },
    ],
  };
}

/** `GET /openapi/v2`: kube-apiserver merges it into its own, by which kubectl checks what it sends and explains kinds. */
export function openApi(version: string): object {
  const kinds = UPLOAD_VERSIONS.map((kindVersion) => [definitionName(kindVersion), definition(kindVersion)]);
  return {
    swagger: '2.0',
    info: { title: 'dvflow', version },
    paths: Object.fromEntries(
      UPLOAD_VERSIONS.flatMap((pathVersion) => [
        [path(pathVersion), creation(pathVersion)],
        [`${path(pathVersion)}/{name}`, change(pathVersion)],
      ]),
    ),
    definitions: Object.fromEntries(kinds) as object,
  };
}

function path(version: string): string {
  return `/apis/${UPLOAD_GROUP}/${version}/namespaces/{namespace}/${UPLOAD_RESOURCE}`;
}

function definitionName(version: string): string {
  return `io.kubevirt.cdi.upload.${version}.UploadTokenRequest`;
}

const text = (name: string, place: 'path' | 'query'): object => ({
  name,
  in: place,
  type: 'string',
  ...(place === 'path' ? { required: true } : { uniqueItems: true }),
});

/** In what operations differ. */
interface Shape {
  /** Parameters of the path besides the namespace. */
  readonly at?: readonly string[];
  readonly consumes: string;
  /** Schema of what is sent. */
  readonly body: object;
  readonly responses: object;
}

/** What both operations share. */
function operation(
  version: string,
  action: 'patch' | 'post',
  { at = [], consumes, body, responses }: Shape,
): object {
  const name = action === 'post' ? 'create' : action;
  return {
    [action]: {
      operationId: `${name}${version.replace('v', 'V')}NamespacedUploadTokenRequest`,
      consumes: [consumes],
      produces: ['application/json'],
      parameters: [
        text('namespace', 'path'),
        ...at.map((parameter) => text(parameter, 'path')),
        { name: 'body', in: 'body', required: true, schema: body },
        text('dryRun', 'query'),
        text('fieldValidation', 'query'),
      ],
      responses,
      'x-kubernetes-action': action,
      'x-kubernetes-group-version-kind': groupVersionKind(version),
    },
  };
}

function creation(version: string): object {
  const schema = { $ref: `#/definitions/${definitionName(version)}` };
  const responses = { 200: { description: 'OK', schema } };
  return operation(version, 'post', { consumes: 'application/json', body: schema, responses });
}

/**
 * Nothing can be changed, and the verbs of the resource say so. But kubectl looks at this operation for what a kind takes (its
 * `query_param_verifier.go`); without it `kubectl create` wants to list CustomResourceDefinitions, which most users may not.
 */
function change(version: string): object {
  return operation(version, 'patch', {
    at: ['name'],
    consumes: 'application/merge-patch+json',
    body: { type: 'object' },
    responses: { 405: { description: 'Method Not Allowed' } },
  });
}

function definition(version: string): object {
  const described = (description: string): object => ({ type: 'string', description });
  return {
    description: 'Asks for the token with which the disk of a claim is uploaded; nothing is stored.',
    type: 'object',
    required: ['spec'],
    properties: {
      apiVersion: described('Version of this representation.'),
      kind: described('UploadTokenRequest.'),
      metadata: { type: 'object', description: 'Given back as it came.' },
      spec: {
        type: 'object',
        required: ['pvcName'],
        properties: { pvcName: described('Name of the claim in the same namespace.') },
      },
      status: {
        type: 'object',
        properties: { token: described('For the header Authorization: Bearer; good for five minutes.') },
      },
    },
    'x-kubernetes-group-version-kind': [groupVersionKind(version)],
  };
}

function groupVersionKind(version: string): object {
  return { group: UPLOAD_GROUP, version, kind: 'UploadTokenRequest' };
}
