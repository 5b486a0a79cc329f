import { IMPORT, claim, storage } from './requests.js';

/** A case: what is wrong, the spec, and what the API server must say about it. */
export type RefusedCase = readonly [title: string, spec: unknown, says: string | RegExp];

const { source, pvc } = IMPORT;
const populator = { apiGroup: 'populators.example.com', kind: 'Filler', name: 'filler' };
const cloned = { pvc: { namespace: 'a', name: 'b' } };

/** What holds for either form of the target. */
const POPULATION: readonly RefusedCase[] = Object.entries({ pvc, storage: storage('1Gi') }).flatMap(
  ([form, target]): readonly RefusedCase[] => {
    const populated = (members: object): unknown => ({ [form]: { ...target, ...members } });
    return [
      [
        `${form} with a class name of 254 characters`,
        { source, [form]: { ...target, storageClassName: 'c'.repeat(254) } },
        'Name cannot be longer than 253 characters',
      ],
      [
        `${form} with dataSource and dataSourceRef`,
        populated({ dataSource: populator, dataSourceRef: populator }),
        'DataSourceRef and DataSource must match',
      ],
      [
        `${form} with a dataSource without name`,
        populated({ dataSource: { ...populator, name: '' } }),
        'Required value: DataSource name',
      ],
      [
        `${form} with a dataSourceRef without kind`,
        populated({ dataSourceRef: { ...populator, kind: '' } }),
        'Required value: DataSource kind',
      ],
      [
        `${form} with a dataSource without apiGroup`,
        populated({ dataSource: { kind: 'Filler', name: 'a' } }),
        "Required value: DataSource apiGroup when kind is not 'PersistentVolumeClaim'",
      ],
      [
        `${form} with a dataSourceRef into another namespace`,
        populated({ dataSourceRef: { ...populator, namespace: 'b' } }),
        'Invalid value: DataSourceRef namespace not supported',
      ],
    ];
  },
);

/** What CDI's webhook refuses in a size, in modes and in population (`reference/cdi.md` §1.5, checks 1 to 12), and what is said. */
export const REFUSED_TARGETS: readonly RefusedCase[] = [
  ['no pvc and no storage', { source }, 'Missing Data volume PVC'],
  [
    'both pvc and storage',
    { source, pvc, storage: storage('1Gi') },
    'Duplicate storage definition, both target storage and target pvc defined',
  ],
  ['pvc of size 0', { source, pvc: claim('0') }, "PVC size can't be equal or less than zero"],
  ['pvc of size integer 0', { source, pvc: claim(0) }, "PVC size can't be equal or less than zero"],
  ['pvc of a negative size', { source, pvc: claim('-1Gi') }, "PVC size can't be equal or less than zero"],
  ['storage of size 0', { source, storage: storage('0') }, "Storage size can't be equal or less than zero"],
  ['pvc under 1 MiB', { source, pvc: claim('1023Ki') }, 'PVC size should be at least 1MiB'],
  ['pvc of an integer under 1 MiB', { source, pvc: claim(1048575) }, 'PVC size should be at least 1MiB'],
  ['storage under 1 MiB', { source, storage: storage('1k') }, 'Storage size should be at least 1MiB'],
  ['pvc of a size with a wrong unit', { source, pvc: claim('1GiB') }, /should match/],
  ['pvc without size', { source, pvc: { accessModes: ['ReadWriteOnce'] } }, 'PVC size is missing'],
  [
    'pvc without size for a clone',
    { source: cloned, pvc: { accessModes: ['ReadWriteOnce'] } },
    'PVC size is missing',
  ],
  ['storage without size', { source, storage: {} }, 'Storage size is missing'],
  [
    'storage without size for a blank disk',
    { source: { blank: {} }, storage: {} },
    'Storage size is missing',
  ],
  [
    'pvc without access modes',
    { source, pvc: { resources: pvc.resources } },
    'Required value: at least 1 access mode is required',
  ],
  [
    'pvc with an empty list of access modes',
    { source, pvc: { ...pvc, accessModes: [] } },
    'Required value: at least 1 access mode is required',
  ],
  [
    'pvc with two access modes',
    { source, pvc: { ...pvc, accessModes: ['ReadWriteOnce', 'ReadOnlyMany'] } },
    'PVC multiple accessModes',
  ],
  [
    'pvc with an access mode that does not exist',
    { source, pvc: { ...pvc, accessModes: ['ReadWriteTwice'] } },
    'Unsupported value: "ReadWriteTwice": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"',
  ],
  [
    'storage with a second access mode that does not exist',
    { source, storage: { ...storage('1Gi'), accessModes: ['ReadWriteOnce', 'RWX'] } },
    'Unsupported value: "RWX": supported values: "ReadOnlyMany"',
  ],
  [
    'external population with a source',
    { source, pvc: { ...pvc, dataSourceRef: populator } },
    'External population is incompatible with Source and SourceRef',
  ],
  [
    'external population with a sourceRef',
    { sourceRef: { kind: 'DataSource', name: 'a' }, storage: { ...storage('1Gi'), dataSource: populator } },
    'External population is incompatible with Source and SourceRef',
  ],
  ...POPULATION,
];
