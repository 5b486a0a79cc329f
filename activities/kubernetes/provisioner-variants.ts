/** Provisioners whose classes differ by their parameters: which row of the table is meant (CDI's `storageProvisionerKey`). */
import type { V1StorageClass } from '@kubernetes/client-node';
import { NO_PROVISIONER } from './names.js';
import { provisionerFacts } from './provisioner-table.js';
import type { ProvisionerFacts } from './provisioner-table.js';

type Parameters = Readonly<Record<string, string>>;

/** How a class was recognised; CDI's reasons of condition `Recognized`. */
export type Recognition =
  | { readonly reason: 'RecognizedProvisioner'; readonly facts?: ProvisionerFacts }
  | { readonly reason: 'UnrecognizedProvisioner' | 'UnrecognizedStorageClassParameters' };

/** Recognises the class by provisioner and parameters. */
export function recognise({ provisioner, parameters = {} }: V1StorageClass): Recognition {
  if (provisioner === NO_PROVISIONER) return { reason: 'RecognizedProvisioner' };
  const variantOf = Object.hasOwn(VARIANTS, provisioner) ? VARIANTS[provisioner] : undefined;
  const variant = variantOf?.(parameters) ?? '';
  if (variant === UNKNOWN) return { reason: 'UnrecognizedStorageClassParameters' };
  const facts = provisionerFacts(variant ? `${provisioner}/${variant}` : provisioner);
  return facts ? { reason: 'RecognizedProvisioner', facts } : { reason: 'UnrecognizedProvisioner' };
}

const UNKNOWN = Symbol('parameters that are not known');

/** The variant that parameters ask for; empty for the provisioner itself. */
type VariantOf = (parameters: Parameters) => string | typeof UNKNOWN;

const VARIANTS: Readonly<Record<string, VariantOf>> = {
  'kubevirt.io.hostpath-provisioner': (parameters) => ('overlayCSI' in parameters ? 'overlay' : ''),
  'kubernetes.io/portworx-volume': sharedByNfs,
  'pxd.portworx.com': (parameters) => {
    const { backend } = parameters;
    if (backend === undefined) return sharedByNfs(parameters);
    return backend === 'pure_block' || backend === 'pure_fa_file' ? backend : '';
  },
  'csi.trident.netapp.io': ({ backendType = '', selector = '' }) => {
    const known = ['ontap-nas', 'ontap-san'].find((type) => backendType.startsWith(type));
    if (known) return known;
    const asked = selector.split(/[;,]/).map((part) => part.trim());
    const isFlex = backendType === 'google-cloud-netapp-volumes' && asked.includes('performance=flex');
    return isFlex ? 'gcnv-flex' : UNKNOWN;
  },
  'infinibox-csi-driver': ({ storage_protocol: protocol = '' }) => {
    if (['iscsi', 'fc'].includes(protocol)) return 'iscsiorfibrechannel';
    if (protocol === 'nvme') return 'nvme';
    return ['nfs', 'nfs_treeq'].includes(protocol) ? 'nfs' : UNKNOWN;
  },
  'csi.vsphere.vmware.com': (parameters) => (fileSystemOf(parameters).includes('nfs') ? 'nfs' : ''),
  'csi-unity.dellemc.com': ({ protocol = '' }) => (protocol.toLowerCase() === 'nfs' ? 'nfs' : ''),
  'csi-powerstore.dellemc.com': onNfs,
  'csi-vxflexos.dellemc.com': onNfs,
  'csi-powermax.dellemc.com': onNfs,
  'csi.huawei.com': ({ protocol }) => (protocol === 'nfs' ? 'nfs' : ''),
  'driver.longhorn.io': ({ migratable, nfsOptions, fsType }) => {
    if (migratable === 'true') return 'migratable';
    if (nfsOptions) return 'nfs';
    return fsType ? 'fs' : '';
  },
  'ebs.csi.aws.com': ({ type = '' }) => {
    if (type === 'io1' || type === 'io2') return type;
    return type === 'gp2' || type === 'gp3' ? 'gp' : '';
  },
  'pd.csi.storage.gke.io': ({ type = '' }) =>
    ['hyperdisk-balanced', 'hyperdisk-balanced-high-availability'].includes(type) ? 'hyperdisk' : '',
  'csi.san.synology.com': ({ protocol = '' }) => {
    if (['iscsi', ''].includes(protocol)) return 'iscsi';
    if (protocol === 'smb') return 'smb';
    return ['nfs', 'nfs_treeq'].includes(protocol) ? 'nfs' : UNKNOWN;
  },
  'vpc.file.csi.ibm.io': ({ profile = '', vmState }) => {
    if (profile !== 'rfs' && profile !== 'dp2') return '';
    return vmState === 'true' ? `${profile}-rwo` : profile;
  },
};

/** Portworx: volumes that are shared by NFS version 3. */
function sharedByNfs({ sharedv4_mount_options: options = '' }: Parameters): string {
  const given = options.split(',');
  return given.includes('vers=3.0') && given.includes('nolock') ? 'nfs' : '';
}

function onNfs(parameters: Parameters): string {
  return fileSystemOf(parameters) === 'nfs' ? 'nfs' : '';
}

function fileSystemOf(parameters: Parameters): string {
  return (parameters['csi.storage.k8s.io/fstype'] ?? '').toLowerCase();
}
