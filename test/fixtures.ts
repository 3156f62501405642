import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** The repository: a folder up, or two where these helpers are compiled into a folder of their own. */
const ROOT = ["../", "../../"]
  .map((path) => new URL(path, import.meta.url))
  .find((url) => existsSync(new URL("fixtures/manifest.json", url)));
const OWN = new URL("fixtures/", ROOT);
const SHARED = new URL("../shared/", ROOT);

/** The reference families: a checkpoint, and PyTorch's activations in float32 and float64. */
export const FAMILIES = [
  "osnet_x0_25",
  "osnet_ain_x0_25",
  "osnet_x0_25_nofc",
  "osnet_x0_25_fd128",
  "osnet_ibn_x0_25",
  "osnet_nas_x0_25",
  "osnet_attr_max_x0_25",
] as const;

export type Family = (typeof FAMILIES)[number];

/** Those that between them have every kind of layer: instance norms, layer norms in gates, a max pool at the end. */
export const VARIED_FAMILIES: readonly Family[] = [
  "osnet_ain_x0_25",
  "osnet_nas_x0_25",
  "osnet_attr_max_x0_25",
];

/** `TESTS=all` runs every family in every form and runtime, where they take turns otherwise. */
export const ALL: boolean = process.env.TESTS === "all";

/** Where a fixture is: in the repository, or in the reference data that some machines have beside it. */
export function fixturePath(name: string): string | undefined {
  return [new URL(name, OWN), new URL(`fixtures/${name}`, SHARED), new URL(name, SHARED)]
    .map((url) => fileURLToPath(url))
    .find((path) => existsSync(path));
}

/** Why a test cannot run, or false if all its fixtures are there. */
export function missing(...names: readonly string[]): string | false {
  const absent = names.filter((name) => fixturePath(name) === undefined);
  return absent.length > 0 && `reference data not on this machine: ${absent.join(", ")}`;
}

export function readFixture(name: string): Uint8Array {
  const path = fixturePath(name);
  if (path === undefined) throw new Error(`no fixture ${name}`);
  return readFileSync(path);
}
