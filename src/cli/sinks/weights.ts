import { castStateDict, compareBits, encodeWeights } from "../../convert/export/encode-weights.js";
import type { WeightsFormat } from "../../convert/formats/registry.js";
import { decodeWeights } from "../../convert/import/checkpoint.js";
import type { StateDict } from "../../core/tensor.js";
import type { FloatDType } from "../../core/tensor-cast.js";
import type { Sink, Source } from "./sink.js";

/** The options of files of weights, as commander hands them over. */
export interface WeightsSinkOptions {
  readonly dtype?: FloatDType;
}

/** Files of weights, verified by reading them back and comparing every tensor bit for bit. */
export function weightsSink(format: WeightsFormat, { dtype }: WeightsSinkOptions): Sink {
  const convert = ({ checkpoint: { stateDict }, name }: Source): StateDict =>
    dtype === undefined ? stateDict : castStateDict(stateDict, dtype, name);
  return {
    encode(source, output) {
      const { stateDict, decoded } = source.checkpoint;
      const converted = convert(source);
      const bytes = encodeWeights(converted, format, { subject: output, metadata: decoded.metadata });
      const changed = [...stateDict].filter(([path, tensor]) => converted.get(path) !== tensor).length;
      return {
        bytes,
        notes: changed > 0 ? [`${changed} of ${stateDict.size} tensors converted to ${dtype}`] : [],
      };
    },
    async verify({ bytes: written }, source, output) {
      const { stateDict } = decodeWeights(written, { subject: output, format });
      const differences = compareBits(convert(source), stateDict);
      const tensors = source.checkpoint.stateDict.size;
      return {
        passed: differences.length === 0,
        report: { passed: differences.length === 0, tensors, differences },
        sentence: `${tensors} tensors read back bit for bit`,
        explain: async () => ["The written file does not read back as it was:", ...differences].join("\n  "),
      };
    },
  };
}
