import type { OnnxModel } from "../../formats/onnx/index.js";
import type { TfjsModel } from "../../formats/tfjs/index.js";

/** What a file says of itself, as far as matching and notes have use for it. */
export function aboutTfjs({ convertedBy, metadata }: TfjsModel): Pick<OnnxModel, "producer" | "metadata"> {
  const texts = Object.entries(metadata ?? {}).filter(
    (entry): entry is [string, string] => typeof entry[1] === "string",
  );
  return { producer: { name: convertedBy ?? "", version: "" }, metadata: new Map(texts) };
}
