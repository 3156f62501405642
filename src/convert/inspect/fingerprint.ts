/**
 * A fingerprint of a network's weights, for telling whether two files hold the same network.
 *
 * SHA-256 of a text in UTF-8: a line `osnet-weights/1`, then one for each parameter and buffer that the embedding is
 * computed from, in the layer graph's order, which is torchreid's `state_dict()` order:
 *
 *     conv1.conv.weight [16, 3, 7, 7] <SHA-256 of its values, row-major, as little-endian float64>
 *
 * The classifier, other heads and `num_batches_tracked` are left out; container, wrapper, prefix and the order of keys
 * never show. Values are widened, which is exact: float32 weights and a float64 copy of them have one fingerprint, while
 * a half-precision copy, whose values were rounded, has another. −0 and 0 differ as their bits do; every NaN is the
 * same NaN, since widening need not keep its payload.
 *
 * A file whose batch norms are folded has other weights than its checkpoint, and another fingerprint. The two meet in a
 * second one, `osnet-folded-weights/1`: the same text of the weights that folding gives (in float64, rounded to float32
 * once, and what cannot be seen set to zero, as we write them), under the names that our files have them by. Exporters that fold in float32 round otherwise.
 */
import { ancestors, type LayerGraph, parametersOf } from "../../arch/index.js";
import { sha256 } from "../../core/bytes.js";
import type { StateDict } from "../../core/tensor.js";
import { formatShape, type Tensor } from "../../core/tensor.js";
import { toReal } from "../../core/tensor-cast.js";
import { foldBatchNorm } from "../export/fold.js";
import { writtenWeights } from "../export/negligible.js";

/** The first line of the text that is hashed. A change of what follows changes it. */
export const FINGERPRINT_SCHEME = "osnet-weights/1";

const FOLDED_SCHEME = "osnet-folded-weights/1";

/** The high word of float64's quiet NaN, the one that IEEE 754 arithmetic makes. */
const NAN_HIGH_WORD = 0x7ff80000;

/** The fingerprint of a complete state dict, 64 hexadecimal digits. */
export async function fingerprintWeights(graph: LayerGraph, stateDict: StateDict): Promise<string> {
  const lines = [FINGERPRINT_SCHEME];
  for (const { path, shape, optional } of parametersOf(graph)) {
    const tensor = stateDict.get(path);
    if (optional || !tensor || path.startsWith("classifier.")) continue;
    lines.push(`${path} ${formatShape(shape)} ${await sha256(float64Bytes(tensor, path))}`);
  }
  return sha256(new TextEncoder().encode(`${lines.join("\n")}\n`));
}

/** The fingerprint of a complete state dict as it is once every batch norm is folded into the layer before. */
export async function fingerprintFolded(graph: LayerGraph, stateDict: StateDict): Promise<string> {
  const whole = foldBatchNorm(graph);
  const needed = ancestors(whole, whole.outputs.features);
  const folded = { ...whole, nodes: whole.nodes.filter(({ name }) => needed.has(name)) };
  const written = writtenWeights(folded, stateDict);
  const digests = new Map<string, string>();
  for (const node of folded.nodes) {
    for (const { name, tensor } of Object.values(written.of(node)))
      if (!digests.has(name))
        digests.set(name, `${formatShape(tensor.shape)} ${await sha256(float64Bytes(tensor, name))}`);
  }
  const lines = [FOLDED_SCHEME, ...[...digests].map(([name, digest]) => `${name} ${digest}`)];
  return sha256(new TextEncoder().encode(`${lines.join("\n")}\n`));
}

function float64Bytes(tensor: Tensor, path: string): Uint8Array {
  const { data } = toReal(tensor, path);
  const view = new DataView(new ArrayBuffer(8 * data.length));
  for (let index = 0; index < data.length; index++) {
    const value = data[index] as number;
    if (Number.isNaN(value)) view.setUint32(8 * index + 4, NAN_HIGH_WORD, true);
    else view.setFloat64(8 * index, value, true);
  }
  return new Uint8Array(view.buffer);
}
