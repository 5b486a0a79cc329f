/**
 * What is loaded of `@kubernetes/client-node` by those who load it late: an import of the whole package by name keeps all of its
 * models and APIs in the bundle, 18 MB of them, where one of its members keeps what the member needs.
 */
export {
  AdmissionregistrationV1Api,
  ApiextensionsV1Api,
  AppsV1Api,
  AuthorizationV1Api,
  CoreV1Api,
  CustomObjectsApi,
  KubeConfig,
  Observable,
  PatchStrategy,
  setHeaderOptions,
  StorageV1Api,
  VersionApi,
} from '@kubernetes/client-node';
