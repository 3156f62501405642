import onnxProto from "onnx-proto";
import { expect, it } from "vitest";
import { type Message, MODEL } from "../../../../src/convert/formats/onnx/messages.js";
import { serializeModel } from "../../../../src/convert/formats/onnx/wire.js";

const SAMPLES = {
  int32: 5,
  int64: 300,
  uint64: 2 ** 40,
  float: 0.5,
  double: Math.PI,
  string: "größer",
  bytes: Uint8Array.of(1, 0, 255),
};

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

/** Each field of each message alone, where it first occurs below the model, as onnx-proto encodes it. */
function compareFields(): { readonly others: readonly string[]; readonly dropped: readonly string[] } {
  const seen = new Set<Message<object>>([MODEL]);
  const pending = [{ path: "model", message: MODEL as Message<object>, modelOf: (inner: object) => inner }];
  const others: string[] = [];
  const dropped: string[] = [];
  for (const { path, message, modelOf } of pending)
    for (const { name, type, isRepeated } of message.backwards) {
      const isList = isRepeated && !(message === MODEL && name === "graph");
      const around = (value: unknown): object => modelOf({ [name]: isList ? [value, value] : value });
      const model = around(typeof type === "function" ? {} : SAMPLES[type]);
      const expected = hex(onnxProto.onnx.ModelProto.encode(model).finish());
      if (expected === hex(onnxProto.onnx.ModelProto.encode(modelOf({})).finish()))
        dropped.push(`${path}.${name}`);
      else if (hex(serializeModel(model, 64)) !== expected) others.push(`${path}.${name}`);
      else if (typeof type === "function" && !seen.has(type())) {
        seen.add(type());
        pending.push({ path: `${path}.${name}`, message: type(), modelOf: around });
      }
    }
  return { others, dropped };
}

it("the messages have the fields, numbers and types that onnx-proto has, and those of newer versions", () => {
  const { others, dropped } = compareFields();
  expect(others).toEqual([]);
  expect(dropped).toMatchInlineSnapshot(`
    [
      "model.configuration",
      "model.functions.metadataProps",
      "model.functions.overload",
      "model.functions.valueInfo",
      "model.functions.attributeProto",
      "model.functions.status",
      "model.functions.sinceVersion",
      "model.graph.metadataProps",
      "model.functions.node.deviceConfigurations",
      "model.functions.node.metadataProps",
      "model.functions.node.overload",
      "model.graph.valueInfo.metadataProps",
      "model.graph.initializer.metadataProps",
      "model.graph.valueInfo.type.opaqueType",
    ]
  `);
});
