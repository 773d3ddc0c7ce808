// The function without a component: `npm test`.
import assert from 'node:assert/strict';
import test from 'node:test';
import { rolldown } from 'rolldown';

const bundle = await rolldown({ input: new URL('../src/mask.ts', import.meta.url).pathname });
const { output } = await bundle.generate({ format: 'esm' });
const { mask, redact } = await import(`data:text/javascript,${encodeURIComponent(output[0].code)}`);

test('cards and mails are masked wherever they stand', () => {
  const event = { user: 'ann.b@example.org', note: ['paid with 4111 1111-1111 1111, thanks'], order: '1234567890123', n: 1 };
  const [masked, changed] = redact(event);
  assert.deepEqual(masked, {
    user: '***@example.org',
    note: ['paid with **** ****-**** 1111, thanks'],
    order: '1234567890123',
    n: 1,
  });
  assert.equal(changed, 2);
});

test('masks find their edges', () => {
  const cases = [
    ['ü@ü.de, b@c.org!', '***@ü.de, ***@c.org!'],
    ['no mail: a@b, @x.org, 12@', 'no mail: a@b, @x.org, 12@'],
    ['4111111111111111', '************1111'],
    ['41111111111111112', '41111111111111112'],
    ['', ''],
  ];
  for (const [text, masked] of cases) assert.equal(mask(text), masked);
});
