// Payment and mail data must not reach analytics: card numbers and mail addresses in any string of a JSON event are masked.
import { config, count, module, Output, records } from '../lib/tidemill.ts';
import { redact } from './mask.ts';

export const handler = module((batch) => {
  const out = new Output(config('output') ?? 'events.redacted');
  let masked = 0;
  for (const record of records(batch)) {
    // A tombstone carries no data; it must still delete the key downstream.
    if (record.value === undefined) {
      out.push(record.key, undefined, record.timestamp);
      continue;
    }
    const [event, changed] = redact(record.json());
    masked += changed;
    out.push(record.key, changed === 0 ? record.value : JSON.stringify(event), record.timestamp);
  }
  out.send();
  count('masked', masked);
});
