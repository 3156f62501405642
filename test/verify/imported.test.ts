import { describe, expect, it } from "vitest";
import type { Checkpoint } from "../../src/convert/open/checkpoint.js";
import { liftCheckpoint } from "../../src/convert/open/lift.js";
import { openModel, type SourceFile } from "../../src/convert/open/open-file.js";
import { filled } from "../../src/core/functions.js";
import { castFloat, isDType, toFloat32 } from "../../src/core/tensor-cast.js";
import { openVerification } from "../../src/verify/open.js";
import { verify } from "../../src/verify/verify.js";
import { tinyCheckpoint } from "../mutation/families.js";
import { convert, openReference, rewriteOnnx, SMALL, withTensor } from "../support/osnet.js";

/** A network with a dead convolution row and a dead batch norm channel, as trained ones have. */
const original = ((): Checkpoint => {
  const tiny = tinyCheckpoint("block");
  const scaled = (path: string, until: number, factor: number) => (stateDict: Checkpoint["stateDict"]) =>
    withTensor(stateDict, path, (tensor) => ({
      ...tensor,
      data: toFloat32(tensor, path).data.map((value, at) =>
        at < until ? Math.fround(value * factor) : value,
      ),
    }));
  const dead = scaled("conv2.0.conv2b.1.conv1.weight", 4, 1e-40);
  return { ...tiny, stateDict: dead(scaled("conv2.0.conv2a.bn.weight", 1, 1e-30)(tiny.stateDict)) };
})();

const onnx = (name: string, bytes: Uint8Array): SourceFile => ({ name: `${name}.onnx`, bytes });
const imported = (file: SourceFile): Checkpoint => liftCheckpoint(openModel("onnx", file));

/** Every folded constant off by up to `units` in 2^-24, as by an exporter that folds in float32. */
const foldedElsewhere = (units: number): SourceFile =>
  onnx(
    "torch",
    rewriteOnnx(convert(original, { keepDenormals: true }), (model) => {
      const initializers = [...model.graph.initializers].map(([name, tensor]) => {
        if (!name.includes(".folded.") || !isDType(tensor, "float32")) return [name, tensor] as const;
        const off = (at: number): number => 1 + ((at % 3) - 1) * units * 2 ** -24;
        const data = filled(new Float32Array(tensor.data.length), (at) => (tensor.data[at] ?? 0) * off(at));
        return [name, { ...tensor, data }] as const;
      });
      return { ...model, graph: { ...model.graph, initializers: new Map(initializers) } };
    }),
  );

describe("one network in files that folded its batch norms elsewhere, or not at all", () => {
  const folded = onnx("folded", convert(original));
  const torch = foldedElsewhere(5);
  const files: readonly SourceFile[] = [
    openReference(original, "original.pth"),
    folded,
    onnx("unfolded", convert(original, { fold: false })),
    torch,
    onnx("rewritten", convert(imported(torch))),
    onnx("kept", convert(imported(torch), { fold: false })),
    openReference(imported(folded), "of-folded.pth"),
    openReference(imported(torch), "of-torch.pth"),
  ];

  it.each(files.map((file) => [file.name, file] as const))("%s passes against each", async (name, file) => {
    for (const reference of files) {
      if (reference.name === name) continue;
      const { faults, passed } = await verify(await openVerification(file, reference, { size: SMALL }));
      expect([reference.name, faults, passed]).toEqual([reference.name, [], true]);
    }
  });

  it.each(["original.pth", "of-folded.pth"])(
    "is another network for %s if products are farther off",
    async (name) => {
      const other = foldedElsewhere(400);
      for (const file of [
        other,
        onnx("rewritten", convert(imported(other))),
        openReference(imported(other), "of-other.pth"),
      ]) {
        const reference = files.find((each) => each.name === name);
        if (!reference) throw new Error(name);
        const { faults, proof } = await verify(await openVerification(file, reference, { size: SMALL }));
        expect(faults.length).toBeGreaterThan(0);
        expect(faults[0]?.kind).toBe("weights");
        expect(proof?.status).not.toBe("proven");
      }
    },
  );
});

describe.each(["float16", "bfloat16"] as const)("an imported checkpoint in %s", (dtype) => {
  const whole = imported(onnx("folded", convert(original)));
  /** All tensors in half precision, those of weights multiplied before. */
  const narrow = (factor: number): SourceFile => {
    const stateDict = new Map(
      [...whole.stateDict].map(([path, tensor]) => {
        if (!isDType(tensor, "float32")) return [path, tensor] as const;
        const { shape, data } = tensor;
        const scaled = shape.length > 1 ? data.map((value) => value * factor) : data;
        return [path, castFloat({ dtype: "float32", shape, data: scaled }, dtype, path)] as const;
      }),
    );
    return openReference({ ...whole, stateDict }, `${dtype}.pth`);
  };

  it.each(["float32", "original"])("passes against the %s one, which differs from it", async (name) => {
    const reference = openReference(name === "original" ? original : whole, `${name}.pth`);
    const options = { size: SMALL };
    expect((await verify(await openVerification(narrow(1), reference, options))).faults).toEqual([]);
    expect((await verify(await openVerification(reference, narrow(1), options))).passed).toBe(false);
  });

  it("is another network if its weights are farther off than rounding explains", async () => {
    for (const reference of [openReference(original), openReference(whole)]) {
      const file = narrow(dtype === "float16" ? 1.003 : 1.02);
      const { faults } = await verify(await openVerification(file, reference, { size: SMALL }));
      expect(faults.map(({ kind }) => kind)).toContain("weights");
    }
  });
});

describe("a file with its own batch norms against a folded model in fewer bits", () => {
  it.each(["float16", "bfloat16"] as const)("is one fault: %s", async (dtype) => {
    const half = onnx(
      "half",
      rewriteOnnx(convert(original), (model) => {
        const initializers = [...model.graph.initializers].map(
          ([name, tensor]) =>
            [
              name,
              isDType(tensor, "float32") ? toFloat32(castFloat(tensor, dtype, name), name) : tensor,
            ] as const,
        );
        return { ...model, graph: { ...model.graph, initializers: new Map(initializers) } };
      }),
    );
    const unfolded = onnx("unfolded", convert(original, { fold: false }));
    const { faults } = await verify(await openVerification(unfolded, half, { size: SMALL }));
    expect(faults).toMatchObject([{ kind: "weights", cause: "weights-rounded" }]);
    expect(faults[0]?.explanation).toContain(
      `the reference's weights are the candidate's, rounded to ${dtype}`,
    );
  });
});
