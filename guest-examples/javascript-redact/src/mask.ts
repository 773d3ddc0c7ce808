// What is masked. Knows nothing of Tidemill, so that `npm test` needs no component.

// The engine has no Unicode property classes (\p{L}): letters beyond ASCII are a range.
const MAIL = /[\w.%+\u00c0-\uffff-]+@([\w\u00c0-\uffff-]+(?:\.[\w\u00c0-\uffff-]+)+)/g;
const DIGITS = /\d(?:[ -]?\d){12,18}(?!\d)/g;

/** Masks every string of a JSON value; says how many were changed. */
export function redact(value: any): [any, number] {
  if (typeof value === 'string') {
    const masked = mask(value);
    return [masked, masked === value ? 0 : 1];
  }
  if (value === null || typeof value !== 'object') return [value, 0];
  let changed = 0;
  for (const name of Object.keys(value)) {
    const [masked, count] = redact(value[name]);
    value[name] = masked;
    changed += count;
  }
  return [value, changed];
}

/** The domain of a mail address is of use to analytics and names nobody; so are the last four digits of a card (PCI DSS 3.4). */
export function mask(text: string): string {
  const mails = text.includes('@') ? text.replace(MAIL, '***@$1') : text;
  return mails.replace(DIGITS, (run, at: number) => {
    const before = at > 0 && /\d/.test(mails[at - 1]);
    return before || !luhn(run) ? run : run.slice(0, -4).replace(/\d/g, '*') + run.slice(-4);
  });
}

/** ISO/IEC 7812-1: order numbers and phone numbers stay readable. */
function luhn(run: string): boolean {
  let sum = 0;
  let double = false;
  for (let i = run.length - 1; 0 <= i; i--) {
    const digit = run.charCodeAt(i) - 48;
    if (digit < 0) continue;
    sum += double ? (digit > 4 ? 2 * digit - 9 : 2 * digit) : digit;
    double = !double;
  }
  return sum % 10 === 0;
}
