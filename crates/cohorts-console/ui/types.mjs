// Writes generated/schema.d.ts, the types of the contract. They are not committed, because the bundle does not contain them.
import { mkdir, writeFile } from 'node:fs/promises';
import openapiTS, { astToString } from 'openapi-typescript';

const contract = new URL('../../../openapi.yaml', import.meta.url);
const types = await openapiTS(contract, { alphabetize: true });
await mkdir(new URL('generated/', import.meta.url), { recursive: true });
await writeFile(new URL('generated/schema.d.ts', import.meta.url), `// @generated from openapi.yaml\n${astToString(types)}`);
