import { readFileSync } from "node:fs";
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";

const compiled = new Map<string, ValidateFunction>();

/** A published schema of the package, compiled once in each process. */
export function schemaOf(name: string): ValidateFunction {
  const validate = compiled.get(name) ?? compile(name);
  compiled.set(name, validate);
  return validate;
}

/** Reports refer to each other's. */
function compile(name: string): ValidateFunction {
  const ajv = new Ajv2020({ allowUnionTypes: true, strictRequired: false, allErrors: true });
  if (name !== REPORT) ajv.addSchema(read(REPORT));
  return ajv.compile(read(name));
}

const REPORT = "osnet-parity-1.schema.json";

function read(name: string): object {
  return JSON.parse(readFileSync(new URL(`../../schemas/${name}`, import.meta.url), "utf8"));
}
