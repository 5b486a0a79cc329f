/** DataVolumes, as CDI spells them, and what is said of them. */

/** Phases of the lifecycles, as CDI spells them (`cdi.md` §1.2); `''` is the phase of a DataVolume that nobody has looked at. */
export type Phase =
  | ''
  | 'Pending'
  | 'WaitForFirstConsumer'
  | 'PVCBound'
  | 'ImportScheduled'
  | 'ImportInProgress'
  | 'UploadScheduled'
  | 'UploadReady'
  | 'CloneScheduled'
  | 'CloneInProgress'
  | 'Succeeded'
  | 'Failed'
  | 'Unknown';

/** The member of `spec.source` that a DataVolume uses; `external` stands for external population. */
export type SourceKind =
  | 'http'
  | 's3'
  | 'gcs'
  | 'registry'
  | 'upload'
  | 'pvc'
  | 'snapshot'
  | 'blank'
  | 'imageio'
  | 'vddk'
  | 'sourceRef'
  | 'external';

/** CDI's `spec.contentType`. */
export type ContentType = 'kubevirt' | 'archive';

/** One DataVolume, by identity. */
export interface DataVolumeRef {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

/** A Kubernetes manifest as a person typed it; nothing is trusted before the API server has judged it. */
export interface DataVolumeManifest {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata: {
    readonly name?: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly ownerReferences?: readonly object[];
    readonly finalizers?: readonly string[];
  };
  readonly spec: Readonly<Record<string, unknown>>;
}

/** Facts about a DataVolume that a lifecycle decides by. */
export interface DataVolumeFacts extends DataVolumeRef {
  readonly source: SourceKind;
  /** Source address without user info and query; never enough to authenticate. */
  readonly displayUrl: string;
  readonly contentType: ContentType;
  /** Phase at the time of reading. */
  readonly phase: Phase;
  /** `dvflow.io/deadline` in ms. @default 86_400_000 */
  readonly deadlineMs: number;
  /** `dvflow.io/upload-spool`: an upload is kept as it comes in scratch space. @default false */
  readonly uploadSpool?: boolean;
  /** The terminal phase was reached by an earlier run and this start has nothing to do (a repeated retry). */
  readonly finished?: boolean;
}

/** Secrets and ConfigMaps that a DataVolume names and that do not exist (yet): waited for. */
export interface Missing {
  /** `Secret team-a/basic-auth`. */
  readonly missing: readonly string[];
}

/** CDI's condition types (`cdi.md` §1.3). */
export interface Condition {
  readonly type: 'Ready' | 'Bound' | 'Running';
  readonly status: 'True' | 'False' | 'Unknown';
  readonly reason: string;
  readonly message: string;
}

/** A Kubernetes event on the DataVolume. */
export interface DataVolumeEvent {
  readonly type: 'Normal' | 'Warning';
  readonly reason: string;
  readonly message: string;
}

/** One write of phase and conditions; its only author is the DataVolume's workflow. */
export interface StatusUpdate {
  readonly dataVolume: DataVolumeRef;
  readonly phase?: Phase;
  readonly claimName?: string;
  readonly conditions?: readonly Condition[];
  readonly event?: DataVolumeEvent;
  /**
   * The claim that is asked for cannot be made: the event is said by CDI's reason `ErrClaimNotValid` too, which virtctl gives up at.
   * Never of what may pass.
   */
  readonly claimNotValid?: boolean;
  /** `N/A`, `45.30%`, `100.0%`. */
  readonly progress?: string;
  /** Attempts of the transfer after the first: CDI's `restartCount`. */
  readonly restartCount?: number;
  /** `cdi.kubevirt.io/storage.pod.phase` on the claim, for clients that read it. */
  readonly podPhase?: 'Pending' | 'Running' | 'Succeeded' | 'Failed';
  /** `cdi.kubevirt.io/storage.pod.ready` on the claim: whether an upload can begin. */
  readonly podReady?: boolean;
}
