import type { OnnxModel } from "../../convert/formats/onnx/index.js";
import type { TfjsModel } from "../../convert/formats/tfjs/index.js";

/** What a candidate's file says, as it was decoded: what a proof is about. */
export type Document =
  | { readonly format: "onnx"; readonly model: OnnxModel }
  | { readonly format: "tfjs"; readonly model: TfjsModel };
