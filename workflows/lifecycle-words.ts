/** The words in which CDI tells one lifecycle from another: conditions and events (`cdi.md` §1.3, §1.4). */
import type { Phase, SourceKind } from '../activities/types.js';

/** What is told of a run. */
export interface Told {
  /** Claim and namespace that get the disk. */
  readonly claim: string;
  readonly namespace?: string | undefined;
  /** Chooses the words. @default those of an import */
  readonly source?: SourceKind | undefined;
  /** What is cloned, as `namespace/name`. */
  readonly from?: string | undefined;
}

/** Words of one lifecycle. */
export interface LifecycleWords {
  /** `import`, for sentences. */
  readonly noun: 'import' | 'upload' | 'clone';
  /** Message of condition `Running` at the end. */
  readonly complete: string;
  /** Reason and message of the event by which a phase is told. */
  readonly events: Partial<Record<Phase, readonly [reason: string, message: string]>>;
}

/** The words for a DataVolume with this source. A blank disk is an import from nothing, for CDI too. */
export function wordsFor(told: Told): LifecycleWords {
  switch (told.source) {
    case 'pvc':
    case 'snapshot':
    case 'sourceRef':
      return cloneWords(told);
    case 'upload':
      return uploadWords(told);
    default:
      return importWords(told);
  }
}

function importWords({ claim }: Told): LifecycleWords {
  return {
    noun: 'import',
    complete: 'Import Complete',
    events: {
      ImportScheduled: ['ImportScheduled', `Import into ${claim} scheduled`],
      ImportInProgress: ['ImportInProgress', `Import into ${claim} in progress`],
      Succeeded: ['ImportSucceeded', `Successfully imported into PVC ${claim}`],
      Failed: ['ImportFailed', `Failed to import into PVC ${claim}`],
    },
  };
}

function uploadWords({ claim }: Told): LifecycleWords {
  return {
    noun: 'upload',
    complete: 'Upload Complete',
    events: {
      UploadScheduled: ['UploadScheduled', `Upload into ${claim} scheduled`],
      UploadReady: ['UploadReady', `Upload into ${claim} ready`],
      Succeeded: ['UploadSucceeded', `Successfully uploaded into ${claim}`],
      Failed: ['UploadFailed', `Upload into ${claim} failed`],
    },
  };
}

function cloneWords({ claim, namespace = '', from = '' }: Told): LifecycleWords {
  const cloning = `Cloning from ${from} into ${namespace}/${claim}`;
  return {
    noun: 'clone',
    complete: 'Clone Complete',
    events: {
      CloneScheduled: ['CloneScheduled', `${cloning} scheduled`],
      CloneInProgress: ['CloneInProgress', `${cloning} in progress`],
      Succeeded: ['CloneSucceeded', `Successfully cloned from ${from} into ${namespace}/${claim}`],
      Failed: ['CloneFailed', `${cloning} failed`],
    },
  };
}
