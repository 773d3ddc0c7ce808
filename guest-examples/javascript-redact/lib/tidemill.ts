// What a module in JavaScript or TypeScript imports. Copy it beside your own code; it is all there is.
//
// Records come and go as columns: a handful of typed arrays for a whole batch, whatever the number of records. The plain forms of the
// interface (`batch.get`, `producer.send`) cost an object and several copies for each record, and are several times as slow.
import type { Batch, Columns } from 'tidemill:processor/records@0.1.0';
import { deadLetter, forward, sendColumns, type OutputColumns } from 'tidemill:processor/producer@0.1.0';
import { get } from 'tidemill:processor/config@0.1.0';
import { mark } from 'tidemill:processor/context@0.1.0';
import { counterAdd } from 'tidemill:processor/metrics@0.1.0';

const decoder = new TextDecoder('utf-8', { fatal: true });
const encoder = new TextEncoder();

/** Bytes copied into the module at once. */
const PAGE_BYTES = 4 << 20;

/** What a call ends with when it does not succeed; in every case nothing that it did takes effect. */
type Failure =
  | { tag: 'retry'; val: { reason: string; afterMs?: number } }
  | { tag: 'poison'; val: { index: number; failure: { code: string; reason: string } } }
  | { tag: 'fatal'; val: string };

/** Thrown: stop the module and tell the operator. */
export function fatal(reason: string): Failure {
  return { tag: 'fatal', val: reason };
}

/** Thrown: deliver the same records again, after the manifest's backoff. */
export function retry(reason: string): Failure {
  return { tag: 'retry', val: { reason } };
}

/** A setting of the manifest's `[config]`. */
export function config(key: string): string | undefined {
  return get(key);
}

/** Adds to a counter that the manifest declares. Takes effect when the call commits. */
export function count(name: string, delta: number): void {
  counterAdd(name, BigInt(delta));
}

/** One record of a batch. */
export class Record {
  constructor(
    readonly batch: Batch,
    readonly index: number,
    readonly offset: bigint,
    /** Milliseconds since 1970. */
    readonly timestamp: bigint,
    readonly key: Uint8Array | undefined,
    /** `undefined` is a tombstone. */
    readonly value: Uint8Array | undefined,
  ) {}

  /** The value as JSON. What is not JSON is poison: this record is given up, the others run again without it. */
  json(): any {
    try {
      return JSON.parse(decoder.decode(this.value));
    } catch {
      throw this.poison('bad-json', 'the value is not JSON');
    }
  }

  /** Thrown: this record can never succeed. `code` is short and stable, for counting; `reason` must not carry secrets. */
  poison(code: string, reason: string): Failure {
    return { tag: 'poison', val: { index: this.index, failure: { code, reason } } };
  }

  /** Gives up on this record and goes on: it goes to the dead-letter topic with the commit of the batch. */
  deadLetter(code: string, reason: string): void {
    granted('dead-letter', () => deadLetter(this.batch, this.index, { code, reason }));
  }
}

/** The records of a batch, in order. */
export function* records(batch: Batch): Generator<Record> {
  const count = batch.len();
  for (let first = 0; first < count; ) {
    const page: Columns = batch.read(first, count - first, PAGE_BYTES, { keys: true, values: true });
    const rows = page.offsets.length;
    let at = 0;
    const take = (length: number) => (length < 0 ? undefined : page.data.subarray(at, (at += length)));
    for (let row = 0; row < rows; row++) {
      const key = take(page.keyLengths[row]);
      const value = take(page.valueLengths[row]);
      yield new Record(batch, first + row, page.offsets[row], page.timestamps[row], key, value);
    }
    first += rows;
  }
}

/** Sends input records on unchanged; their bytes stay with the host. */
export function pass(topic: string, batch: Batch, chosen: Record[]): void {
  granted(topic, () => forward(topic, batch, Uint32Array.from(chosen, (record) => record.index)));
}

/** Records for one topic. They leave with the commit of the batch, or not at all. */
export class Output {
  private readonly keyLengths: number[] = [];
  private readonly valueLengths: number[] = [];
  private readonly timestamps: bigint[] = [];
  private data = new Uint8Array(64 << 10);
  private end = 0;

  constructor(readonly topic: string) {}

  /** Adds a record; the hash of its key chooses the partition. An `undefined` value is a tombstone. */
  push(key: Uint8Array | string | undefined, value: Uint8Array | string | undefined, timestamp?: bigint): void {
    this.keyLengths.push(this.append(key));
    this.valueLengths.push(this.append(value));
    this.timestamps.push(timestamp ?? -1n);
  }

  get length(): number {
    return this.keyLengths.length;
  }

  /** Hands them to the host. */
  send(): void {
    if (this.length === 0) return;
    const columns: OutputColumns = {
      keyLengths: Int32Array.from(this.keyLengths),
      valueLengths: Int32Array.from(this.valueLengths),
      timestamps: BigInt64Array.from(this.timestamps),
      partitions: new Int32Array(0),
      headerCounts: new Uint16Array(0),
      headerLengths: new Int32Array(0),
      data: this.data.subarray(0, this.end),
    };
    granted(this.topic, () => sendColumns(this.topic, columns));
  }

  private append(field: Uint8Array | string | undefined): number {
    if (field === undefined) return -1;
    if (typeof field === 'string') {
      // UTF-8 takes at most three bytes for a UTF-16 unit.
      this.reserve(field.length * 3);
      const { written } = encoder.encodeInto(field, this.data.subarray(this.end));
      this.end += written;
      return written;
    }
    this.reserve(field.length);
    this.data.set(field, this.end);
    this.end += field.length;
    return field.length;
  }

  private reserve(bytes: number): void {
    if (this.end + bytes <= this.data.length) return;
    const larger = new Uint8Array(Math.max(2 * this.data.length, this.end + bytes));
    larger.set(this.data.subarray(0, this.end));
    this.data = larger;
  }
}

/** Makes a function over a batch the component's handler: `export const handler = module((batch) => …)`. */
export function module(process: (batch: Batch) => void): { process(batch: Batch): { tag: 'all' } } {
  return {
    process(batch) {
      process(batch);
      return { tag: 'all' };
    },
  };
}

/** Tells the host which record is being worked on, so that a trap or a timeout is blamed on the right one. */
export function working(record: Record): void {
  mark(record.index);
}

/** What the host refuses is a matter for the operator: the manifest or a limit must change. */
function granted(what: string, call: () => void): void {
  try {
    call();
  } catch (refused: any) {
    const payload = refused?.payload;
    throw fatal(`${what}: ${payload?.tag ?? refused}${payload?.val ? ` ${payload.val}` : ''}`);
  }
}
