/** Names of Kubernetes objects: what is none would be another address once it stands in a path, as `..` does. */

/** RFC 1123's subdomain, as kube-apiserver asks for it. */
const SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const MAX_LENGTH = 253;

/** Why a text is no name of an object, in kube-apiserver's words; undefined for one that is. */
export function whyNoName(text: string): string | undefined {
  if (text.length > MAX_LENGTH) return `must be no more than ${MAX_LENGTH} bytes`;
  if (SUBDOMAIN.test(text)) return undefined;
  return (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an " +
    `alphanumeric character (e.g. 'example.com', regex used for validation is '${SUBDOMAIN.source.slice(1, -1)}')`
  );
}
