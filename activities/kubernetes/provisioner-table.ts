/**
 * What claims of well-known provisioners may ask for, preferred first: the facts of CDI's
 * `pkg/storagecapabilities/storagecapabilities.go` (at c07cdb6f), with those of dvflow's own stack first.
 */
import type { CloneStrategy } from './objects.js';

/** What is known of a provisioner, or of one of its variants. */
export interface ProvisionerFacts {
  /** Access and volume mode, as `RWX/block RWO/file`; preferred first. */
  readonly offers: string;
  /** How CDI clones its volumes best; absent: by snapshot where there is a class for it, else by copying. */
  readonly cloneStrategy?: CloneStrategy;
  /** What CDI's DataImportCron keeps its images as, where there is a snapshot class. @default 'pvc' */
  readonly cronFormat?: 'snapshot';
  /** Smallest claim that is served, a Kubernetes quantity. */
  readonly minimumSize?: string;
}

type Row = readonly [offers: string, more?: Omit<ProvisionerFacts, 'offers'>];

const RWX_FILE = 'RWX/file RWO/file';
const FILE = 'RWX/file RWO/file ROX/file';
const RWO = 'RWO/block RWO/file';
const BLOCK = 'RWX/block RWO/block RWO/file';
const ALL_BUT_RWX_FILE = 'RWX/block RWO/block RWO/file ROX/block ROX/file';
const ALL_BUT_FILE_SHARED = 'RWX/block RWO/block RWO/file ROX/block';
const PORTWORX = 'RWX/block RWX/file RWO/block RWO/file';

const CSI_CLONE = { cloneStrategy: 'csi-clone' } as const;
const COPY = { cloneStrategy: 'copy' } as const;
const SNAPSHOT = { cloneStrategy: 'snapshot', cronFormat: 'snapshot' } as const;
const AT_LEAST_1GI = { minimumSize: '1Gi' } as const;
const SYNOLOGY = { ...CSI_CLONE, ...AT_LEAST_1GI } as const;

/** By name of the provisioner, or by `name/variant` where parameters of the class make a difference. */
const ROWS: Readonly<Record<string, Row>> = {
  'kubevirt.io/hostpath-provisioner': ['RWO/file'],
  'kubevirt.io.hostpath-provisioner': ['RWO/file'],
  'kubevirt.io.hostpath-provisioner/overlay': ['RWX/file'],
  'k8s.io/minikube-hostpath': ['RWO/file'],
  'directpv-min-io': ['RWO/file'],
  'topolvm.cybozu.com': [RWO, COPY],
  'topolvm.io': [RWO, COPY],
  'kubesan.gitlab.io': ['RWX/block ROX/block RWO/block RWO/file', CSI_CLONE],
  'driver.longhorn.io': ['RWO/block'],
  'driver.longhorn.io/migratable': ['RWX/block RWO/block'],
  'driver.longhorn.io/nfs': [RWX_FILE],
  'driver.longhorn.io/fs': ['RWO/file'],
  'nfs.csi.k8s.io': ['RWX/file'],
  'k8s-sigs.io/nfs-subdir-external-provisioner': ['RWX/file'],
  // Ceph
  'kubernetes.io/rbd': [BLOCK],
  'rbd.csi.ceph.com': [BLOCK, CSI_CLONE],
  'rook-ceph.rbd.csi.ceph.com': [BLOCK, { ...CSI_CLONE, cronFormat: 'snapshot' }],
  'openshift-storage.rbd.csi.ceph.com': [BLOCK, { ...CSI_CLONE, cronFormat: 'snapshot' }],
  'cephfs.csi.ceph.com': [RWX_FILE, CSI_CLONE],
  'rook-ceph.cephfs.csi.ceph.com': [RWX_FILE, CSI_CLONE],
  'openshift-storage.cephfs.csi.ceph.com': [RWX_FILE, CSI_CLONE],
  'linstor.csi.linbit.com': [ALL_BUT_RWX_FILE],
  // Dell
  'csi-unity.dellemc.com': [ALL_BUT_RWX_FILE],
  'csi-unity.dellemc.com/nfs': [FILE],
  'csi-vxflexos.dellemc.com': [ALL_BUT_RWX_FILE, CSI_CLONE],
  'csi-vxflexos.dellemc.com/nfs': [FILE],
  'csi-isilon.dellemc.com': [FILE, CSI_CLONE],
  'csi-powermax.dellemc.com': [ALL_BUT_FILE_SHARED, CSI_CLONE],
  'csi-powermax.dellemc.com/nfs': [FILE],
  'csi-powerstore.dellemc.com': [ALL_BUT_FILE_SHARED, COPY],
  'csi-powerstore.dellemc.com/nfs': [FILE],
  // StorageOS
  'kubernetes.io/storageos': ['RWO/file'],
  storageos: ['RWO/file'],
  // Amazon, Azure, Google, OpenStack, Oracle
  'kubernetes.io/aws-ebs': ['RWO/block'],
  'ebs.csi.aws.com': ['RWO/block'],
  'ebs.csi.aws.com/io1': ['RWO/block', { minimumSize: '4Gi' }],
  'ebs.csi.aws.com/io2': [BLOCK, { minimumSize: '4Gi' }],
  'ebs.csi.aws.com/gp': ['RWO/block', AT_LEAST_1GI],
  'efs.csi.aws.com': [RWX_FILE],
  'kubernetes.io/azure-disk': ['RWO/block'],
  'disk.csi.azure.com': ['RWO/block'],
  'kubernetes.io/azure-file': ['RWX/file'],
  'file.csi.azure.com': ['RWX/file'],
  'kubernetes.io/gce-pd': [RWO],
  'pd.csi.storage.gke.io': [RWO, SNAPSHOT],
  'pd.csi.storage.gke.io/hyperdisk': [BLOCK, { ...SNAPSHOT, minimumSize: '4Gi' }],
  'cinder.csi.openstack.org': [RWO],
  'manila.csi.openstack.org': ['RWX/file'],
  'csi.ovirt.org': [RWO],
  'blockvolume.csi.oraclecloud.com': [BLOCK, CSI_CLONE],
  // Hitachi, HPE
  'hspc.csi.hitachi.com': [BLOCK, { ...CSI_CLONE, ...AT_LEAST_1GI }],
  'csi.hpe.com': [BLOCK, CSI_CLONE],
  // IBM
  'spectrumscale.csi.ibm.com': [RWX_FILE, CSI_CLONE],
  'block.csi.ibm.com': [BLOCK, CSI_CLONE],
  'vpc.block.csi.ibm.io': [RWO, COPY],
  'vpc.file.csi.ibm.io': [RWX_FILE, SNAPSHOT],
  'vpc.file.csi.ibm.io/dp2': [RWX_FILE, { ...SNAPSHOT, minimumSize: '10Gi' }],
  'vpc.file.csi.ibm.io/dp2-rwo': ['RWO/file', { ...SNAPSHOT, minimumSize: '10Gi' }],
  'vpc.file.csi.ibm.io/rfs': [RWX_FILE, { ...SNAPSHOT, ...AT_LEAST_1GI }],
  'vpc.file.csi.ibm.io/rfs-rwo': ['RWO/file', { ...SNAPSHOT, ...AT_LEAST_1GI }],
  // Portworx
  'kubernetes.io/portworx-volume': [PORTWORX],
  'kubernetes.io/portworx-volume/nfs': [RWX_FILE],
  'pxd.portworx.com': [PORTWORX, CSI_CLONE],
  'pxd.portworx.com/nfs': [RWX_FILE, CSI_CLONE],
  'pxd.portworx.com/pure_block': [BLOCK, CSI_CLONE],
  'pxd.portworx.com/pure_fa_file': [RWX_FILE, CSI_CLONE],
  // NetApp Trident
  'csi.trident.netapp.io/ontap-nas': [RWX_FILE, SNAPSHOT],
  'csi.trident.netapp.io/ontap-san': ['RWX/block', SNAPSHOT],
  'csi.trident.netapp.io/gcnv-flex': [RWX_FILE, { ...SNAPSHOT, ...AT_LEAST_1GI }],
  // Infinidat
  'infinibox-csi-driver/iscsiorfibrechannel': [BLOCK, CSI_CLONE],
  'infinibox-csi-driver/nvme': [BLOCK, CSI_CLONE],
  'infinibox-csi-driver/nfs': [RWX_FILE, CSI_CLONE],
  // vSphere
  'csi.vsphere.vmware.com': [RWO],
  'csi.vsphere.vmware.com/nfs': ['RWX/file RWO/block RWO/file'],
  // Huawei
  'csi.huawei.com': [ALL_BUT_RWX_FILE],
  'csi.huawei.com/nfs': [FILE],
  // Synology
  'csi.san.synology.com/iscsi': [BLOCK, SYNOLOGY],
  'csi.san.synology.com/nfs': [RWX_FILE, SYNOLOGY],
  'csi.san.synology.com/smb': [RWX_FILE, SYNOLOGY],
};

/** Names and variants that the table knows. */
export const PROVISIONER_KEYS: readonly string[] = Object.keys(ROWS);

/** Provisioners whose classes hold no disks: that nothing is known of them is nothing to tell anybody. */
export const WITHOUT_DISKS: readonly string[] = [
  'openshift-storage.noobaa.io/obc',
  'openshift-storage.ceph.rook.io/bucket',
  'rook-ceph.ceph.rook.io/bucket',
  'stork-snapshot',
];

/** What the table says under this key. */
export function provisionerFacts(key: string): ProvisionerFacts | undefined {
  if (!Object.hasOwn(ROWS, key)) return undefined;
  const [offers = '', more = {}] = ROWS[key] ?? [];
  return { offers, ...more };
}
