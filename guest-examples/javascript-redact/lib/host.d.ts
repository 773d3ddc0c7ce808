// The host's interfaces as far as lib/tidemill.ts uses them; the whole of them is in wit/. Numbers of 64 bits are bigints.

declare module 'tidemill:processor/records@0.1.0' {
  export interface Projection { keys?: boolean; values?: boolean }
  export interface Columns {
    sourceIds: Uint16Array;
    offsets: BigUint64Array;
    timestamps: BigInt64Array;
    /** -1 is a null key. */
    keyLengths: Int32Array;
    /** -1 is a null value. */
    valueLengths: Int32Array;
    headerCounts: Uint16Array;
    data: Uint8Array;
  }
  export interface Batch {
    len(): number;
    read(first: number, maxRecords: number, maxBytes: number, what: Projection): Columns;
  }
}

declare module 'tidemill:processor/producer@0.1.0' {
  import type { Batch } from 'tidemill:processor/records@0.1.0';
  export interface OutputColumns {
    keyLengths: Int32Array;
    valueLengths: Int32Array;
    timestamps: BigInt64Array;
    partitions: Int32Array;
    headerCounts: Uint16Array;
    headerLengths: Int32Array;
    data: Uint8Array;
  }
  export function sendColumns(topic: string, records: OutputColumns): void;
  export function forward(topic: string, batch: Batch, indexes: Uint32Array): void;
  export function deadLetter(batch: Batch, index: number, failure: { code: string; reason: string }): void;
}

declare module 'tidemill:processor/config@0.1.0' {
  export function get(key: string): string | undefined;
}

declare module 'tidemill:processor/context@0.1.0' {
  export function now(): bigint;
  export function mark(index: number): void;
}

declare module 'tidemill:processor/metrics@0.1.0' {
  export function counterAdd(name: string, delta: bigint): void;
}
