import { clean, type Paint, PLAIN } from "../../terminal-text.js";
import { listOperators, metadataRows, missingRows, renderModel } from "./model-text.js";
import type { OnnxInspection } from "./onnx-inspection.js";
import { type Fact, thousands } from "./text.js";

/** Renders an inspection for a terminal: the file, its interface, the network in it, and how that departs from an OSNet. */
export function renderOnnxInspection(inspection: OnnxInspection, paint: Paint = PLAIN): string {
  return renderModel({ kind: "ONNX" }, fileRows(inspection, paint), inspection, paint);
}

function fileRows({ model }: OnnxInspection, paint: Paint): readonly Fact[] {
  const { producer, opset, irVersion, customOpsets, operators, functionCalls, metadata } = model;
  const exporter = [producer.name || "an unnamed program", producer.version].filter((part) => part !== "");
  const domains = Object.entries(customOpsets).map(([domain, version]) => `, ${domain} ${version}`);
  const calls = functionCalls > 0 ? `; ${thousands(functionCalls)} calls of its own functions` : "";
  const missing = model.sidecars.filter((sidecar) => sidecar.missing).map(({ name }) => name);
  return [
    ["exporter", clean(exporter.join(" "))],
    ["opset", `${opset}, IR version ${irVersion}${clean(domains.join(""))}`],
    ["operators", clean(`${listOperators(operators)}${calls}`)],
    ...metadataRows(Object.entries(metadata)),
    ...model.sidecars
      .filter((sidecar) => !sidecar.missing)
      .map(({ name }) => ["weights", `in ${clean(name)}`] as const),
    ...missingRows(missing, paint),
  ];
}
