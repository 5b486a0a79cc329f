/** What a person may hand to Temporal as a DataVolume: read once, here, into a typed value. */
import { parseAllDocuments } from 'yaml';
import { permanentFailure } from '../failures.js';
import type { DataVolumeManifest } from '../types.js';
import { CDI_GROUP } from './names.js';
import type { DataVolume } from './objects.js';

/** A manifest that was read and may be shown to the API server. */
export interface ReadManifest {
  readonly version: string;
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  /** What else its metadata say, for the API server to judge: owners, finalizers, a slip. */
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly spec: DataVolume['spec'];
}

const VERSIONS = [`${CDI_GROUP}/v1beta1`, `${CDI_GROUP}/v1alpha1`];

/** Metadata that only the API server writes; whoever copies an object from it hands them over too. */
const SERVERS_OWN = [
  'uid',
  'resourceVersion',
  'generation',
  'creationTimestamp',
  'deletionTimestamp',
  'deletionGracePeriodSeconds',
  'managedFields',
  'selfLink',
];

/** A manifest repeats nothing; a text that grows when its aliases are expanded is an attack. */
const MAX_ALIASES = 20;

/** Headers that carry credentials. */
const CREDENTIAL_HEADERS = new Set(['authorization', 'cookie', 'proxy-authorization']);

/**
 * Reads a manifest given as object, JSON or YAML.
 *
 * @throws {@link FailureType} `InvalidDataVolume` for what is no DataVolume, has no name, or holds a credential: a workflow's
 * argument is readable by everybody who may look at the workflow
 */
export function readManifest(manifest: DataVolumeManifest | string): ReadManifest {
  const value: unknown = typeof manifest === 'string' ? parseText(manifest, invalid) : manifest;
  if (!isRecord(value))
    throw invalid('the argument is no DataVolume manifest: give an object, or its JSON or YAML text');
  const { apiVersion = VERSIONS[0], kind = 'DataVolume', metadata, spec } = value;
  if (kind !== 'DataVolume') throw invalid(`kind is ${show(kind)}: only DataVolume can be imported`);
  if (typeof apiVersion !== 'string' || !VERSIONS.includes(apiVersion)) {
    throw invalid(`apiVersion is ${show(apiVersion)}: use ${VERSIONS.join(' or ')}`);
  }
  if (!isRecord(metadata) || typeof metadata.name !== 'string' || metadata.name === '') {
    throw invalid('metadata.name is missing: a DataVolume that Temporal starts needs a name of its own');
  }
  if (!isRecord(spec)) throw invalid('spec is missing');
  refuseCredentials(spec);
  const { name, namespace = 'default', labels = {}, annotations = {}, ...others } = metadata;
  if (typeof namespace !== 'string') throw invalid(`metadata.namespace is ${show(namespace)}: not a name`);
  if (!isStrings(labels)) throw invalid('metadata.labels must map names to strings');
  if (!isStrings(annotations)) throw invalid('metadata.annotations must map names to strings');
  const version = apiVersion.split('/')[1] ?? '';
  return { version, namespace, name, labels, annotations, metadata: withoutServers(others), spec };
}

function withoutServers(metadata: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(metadata).filter(([field]) => !SERVERS_OWN.includes(field)));
}

/** The one document in a text of JSON or YAML; `invalid` makes the failure for a text that holds none. */
export function parseText(text: string, invalid: (message: string, cause?: unknown) => Error): unknown {
  // YAML 1.1 is what kubectl reads (`yes` is true); JSON is a part of it
  const documents = parseAllDocuments(text, { version: '1.1' });
  const [document, ...others] = Array.isArray(documents) ? documents : [];
  if (!document) throw invalid('the manifest is empty');
  if (others.length > 0) throw invalid(`the text holds ${others.length + 1} manifests: give one`);
  const problem = document.errors[0];
  if (problem)
    throw invalid(
      `the text is neither JSON nor YAML: ${problem.code} at line ${problem.linePos?.[0].line ?? '?'}`,
    );
  try {
    return document.toJS({ maxAliasCount: MAX_ALIASES });
  } catch (error) {
    throw invalid(`the text uses more than ${MAX_ALIASES} aliases, or unknown ones`, error);
  }
}

function refuseCredentials(spec: Record<string, unknown>): void {
  if (!isRecord(spec.source)) return;
  for (const [kind, source] of Object.entries(spec.source)) {
    if (!isRecord(source)) continue;
    refuseUserInfo(kind, source.url);
    for (const header of Array.isArray(source.extraHeaders) ? (source.extraHeaders as unknown[]) : []) {
      const name = String(header).split(':', 1)[0]?.trim().toLowerCase() ?? '';
      if (!CREDENTIAL_HEADERS.has(name)) continue;
      throw invalid(
        `spec.source.${kind}.extraHeaders carries ${name}, which everybody who sees this workflow could read: ` +
          'name a Secret in secretExtraHeaders',
      );
    }
  }
}

function refuseUserInfo(kind: string, url: unknown): void {
  if (typeof url !== 'string' || !URL.canParse(url)) return;
  const { username, password } = new URL(url);
  if (username === '' && password === '') return;
  throw invalid(
    `spec.source.${kind}.url carries user info, which everybody who sees this workflow could read: ` +
      'name a Secret with the keys accessKeyId and secretKey in secretRef',
  );
}

/** An object that is no list. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** An object whose members are all strings. */
export function isStrings(value: unknown): value is Record<string, string> {
  return isRecord(value) && Object.values(value).every((one) => typeof one === 'string');
}

function show(value: unknown): string {
  return JSON.stringify(value);
}

function invalid(message: string, cause?: unknown): Error {
  return permanentFailure('InvalidDataVolume', message, cause);
}
