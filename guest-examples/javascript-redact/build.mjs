// Bundles src/module.ts and makes it a component: `npm run build`. The types are stripped, not checked.
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { componentize } from '@bytecodealliance/componentize-js';
import { rolldown } from 'rolldown';

const here = dirname(fileURLToPath(import.meta.url));
const dist = join(here, 'dist');
// A project made by `tidemill module new` has the WIT with it; the example is beside it in the tree.
const wit = process.env.TIDEMILL_WIT ?? ['vendor/tidemill/wit', '../../wit'].map((path) => join(here, path)).find(existsSync);

const bundle = await rolldown({ input: join(here, 'src/module.ts'), external: [/^tidemill:/] });
const { output } = await bundle.generate({ format: 'esm' });
await mkdir(dist, { recursive: true });
const sourcePath = join(dist, 'module.js');
await writeFile(sourcePath, output[0].code);

const { component } = await componentize({
  sourcePath,
  witPath: wit,
  worldName: 'processor',
  // There is no network to fetch from.
  disableFeatures: ['http', 'fetch-event'],
});
const target = join(dist, 'javascript_redact.wasm');
await writeFile(target, component);
console.log(`${target}: ${component.length} bytes`);
