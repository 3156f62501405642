/** safetensors files to start from. */

import { bytesOf, le } from "../../convert/formats/pth/build.js";
import type { Seed } from "../mutate/index.js";

const HEADERS: readonly (readonly [name: string, header: object, dataBytes: number])[] = [
  [
    "three tensors",
    {
      __metadata__: { format: "pt", "osnet.spec": "{}" },
      "conv1.weight": { dtype: "F32", shape: [2, 3], data_offsets: [0, 24] },
      "conv1.bias": { dtype: "BF16", shape: [2], data_offsets: [24, 28] },
      tracked: { dtype: "I64", shape: [], data_offsets: [28, 36] },
    },
    36,
  ],
  ["nothing", {}, 0],
  ["an empty tensor", { w: { dtype: "BOOL", shape: [0, 4], data_offsets: [0, 0] } }, 0],
];

export const SAFETENSORS_SEEDS: readonly Seed[] = HEADERS.map(([name, header, dataBytes]) => ({
  name,
  kind: "bytes",
  parts: [
    { kind: "json", bytes: new TextEncoder().encode(JSON.stringify(header)) },
    { kind: "bytes", bytes: new Uint8Array(dataBytes) },
  ],
  assemble: ([text = new Uint8Array(0), data = new Uint8Array(0)]) => bytesOf(le(text.length, 8), text, data),
}));
