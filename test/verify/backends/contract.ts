import { describe, expect, it } from "vitest";
import { expand, type LayerGraph, outputShapes } from "../../../src/arch/index.js";
import { encodeWeights, write } from "../../../src/convert/export/write.js";
import { FORMATS, MODEL_FORMATS, type ModelFormat } from "../../../src/convert/formats/registry.js";
import { openModel } from "../../../src/convert/open/open-file.js";
import type { NamedBytes } from "../../../src/core/bytes.js";
import { InputError } from "../../../src/core/errors.js";
import type { RealTensor, Tensor } from "../../../src/core/tensor.js";
import type { LayerOutput, RuntimeName } from "../../../src/verify/backends/backend.js";
import { BACKENDS, engineOf, isRuntime } from "../../../src/verify/backends/registry.js";
import type { Candidate, Program, Verification } from "../../../src/verify/candidate/candidate.js";
import { modelCandidate } from "../../../src/verify/candidate/model-candidate.js";
import { seededImages } from "../../../src/verify/inputs/images.js";
import { openVerification } from "../../../src/verify/open.js";
import { measure } from "../../../src/verify/outcome/metrics.js";
import type { ParityReport } from "../../../src/verify/outcome/report.js";
import { verify } from "../../../src/verify/verify.js";
import { parametersFor } from "../../convert/export/graphs.js";

/** How far a runtime's runs of one model may be from each other, as a share of the largest value. */
const FLOAT32 = 2e-5;

/** One block of three streams, in which is every kind of layer. */
const graph = expand({
  dialect: "osnet",
  stem: { channels: 8, norm: "instance" },
  stages: [
    {
      blocks: [{ inChannels: 8, outChannels: 16, streams: 3, reduction: 2, instanceNorm: "inside" }],
      transition: true,
    },
  ],
  gate: { reduction: 2, activation: "sigmoid", layerNorm: true },
  pooling: "max",
  embedding: [12],
  head: { classes: 5, loss: "softmax" },
});
const stateDict = parametersFor(graph);
const SIZE = { height: 64, width: 32 } as const;
const images = seededImages(0, 2, SIZE.height, SIZE.width);
const CHECKPOINT = {
  name: "w.safetensors",
  bytes: encodeWeights(stateDict, "safetensors", { subject: "w.safetensors" }),
};

/** The same network with the first gate of the block multiplied by the third's values, which the third is multiplied by too. */
const CROSSED = "conv2.0.gate[1]";
const crossed: LayerGraph = {
  ...graph,
  nodes: graph.nodes.map((node) =>
    node.name === CROSSED
      ? { ...node, inputs: node.inputs.map((input) => input.replace("gate[1]", "gate[3]")) }
      : node,
  ),
};

/** A network in every format of models. */
async function filesOf(network: LayerGraph, gates: boolean): Promise<ReadonlyMap<ModelFormat, NamedBytes>> {
  const source = { name: "w", graph: network, stateDict, decoded: { metadata: new Map() } };
  const files = MODEL_FORMATS.map(async (format): Promise<readonly [ModelFormat, NamedBytes]> => {
    const name = FORMATS[format].main ?? `m.${format}`;
    const { bytes, beside } = await write(source, { format, size: SIZE, output: "both", gates }, name);
    return [format, { name, bytes, ...(beside ? { beside } : {}) }];
  });
  return new Map(await Promise.all(files));
}

/** The gate that the crossed one has in place of its own is computed all the same, for an output. */
const FILES = { right: await filesOf(graph, false), crossed: await filesOf(crossed, true) };

/** The small network in the format that a runtime runs. */
function fileFor(name: RuntimeName, which: keyof typeof FILES = "right"): NamedBytes {
  const file = FILES[which].get(engineOf(name).runs);
  if (!file) throw new Error(`no file for ${name}`);
  return file;
}

/** The same, ready to run. */
function candidateFor(name: RuntimeName): Candidate & { readonly program: Program } {
  const file = fileFor(name);
  const format = engineOf(name).runs;
  const party = { name: file.name, format };
  const candidate = modelCandidate(openModel(format, file), file, graph, party, { backend: name });
  if (!candidate.program) throw new Error("a model has a program");
  return { ...candidate, program: candidate.program };
}

/** Verifies, and leaves a browser that the candidate runs in open for the tests to come. */
export function verifyInOpen({ candidate, ...rest }: Verification): Promise<ParityReport> {
  const { close: _close, ...backend } = candidate.backend;
  return verify({ ...rest, candidate: { ...candidate, backend } });
}

/** The verdict on it, each layer within the bounds of what the runtime may do. */
async function verdictOn(file: NamedBytes, backend: RuntimeName): Promise<ParityReport> {
  return verifyInOpen(await openVerification(file, CHECKPOINT, { arch: graph.spec, size: SIZE, backend }));
}

async function collect(run: AsyncIterable<LayerOutput>): Promise<readonly LayerOutput[]> {
  const all: LayerOutput[] = [];
  for await (const { name, tensor } of run) all.push({ name, tensor: copyOf(tensor) });
  return all;
}

function copyOf(tensor: RealTensor): RealTensor {
  return { ...tensor, data: tensor.data.slice() } as RealTensor;
}

function expectClose(actual: RealTensor | undefined, expected: RealTensor, what: string): void {
  if (!actual) throw new Error(`no ${what}`);
  expect(actual.shape, what).toEqual([...expected.shape]);
  const { relMax, mismatchedNonFinite } = measure(expected, actual);
  expect(mismatchedNonFinite, what).toBe(0);
  expect(relMax, what).toBeLessThan(FLOAT32);
}

function rowOf({ dtype, shape, data }: Tensor<"float32">, row: number): Tensor<"float32"> {
  const size = data.length / (shape[0] ?? 1);
  return { dtype, shape: [1, ...shape.slice(1)], data: data.slice(row * size, (row + 1) * size) };
}

/** What every backend does; one that is a row of the registry has nothing else to show. A browser that it starts stays open. */
export function backendContract(name: RuntimeName): void {
  describe(`${name} as a backend`, () => {
    it("has a row that says what it is", () => {
      expect(isRuntime(name)).toBe(true);
      expect(Object.values(BACKENDS)).toContain(engineOf(name));
      expect(candidateFor(name).backend.name).toBe(name);
    });

    it("yields every layer once, in network order, under its name and in NCHW", async () => {
      const { backend, folded } = candidateFor(name);
      const outputs = await collect(backend.run(images));
      const shapes = outputShapes(graph, images.shape);
      const expected = graph.nodes.filter(({ name, op }) => op.kind !== "input" && !folded.has(name));
      expect(outputs.map(({ name }) => name)).toEqual(expected.map(({ name }) => name));
      expect(backend.layers).toEqual(expected.map(({ name }) => name));
      for (const { name, tensor } of outputs) expect(tensor.shape, name).toEqual(shapes.get(name));
    });

    it("computes every layer to within what its arithmetic may round", async () => {
      const { passed, faults, layers, output, backend } = await verdictOn(fileFor(name), name);
      expect({ passed, faults, backend }).toEqual({ passed: true, faults: [], backend: name });
      expect(layers.length).toBeGreaterThan(60);
      expect(layers.filter(({ margin }) => margin === null || !(margin <= 1))).toEqual([]);
      expect(output?.reruns?.map(({ how, status }) => [how, status])).toEqual([
        ...(engineOf(name).optimises ? [["unoptimised", "pass"]] : []),
        ["alone", "pass"],
      ]);
    });

    it("is found out at the layer where a gate is not its stream's", async () => {
      const { passed, faults } = await verdictOn(fileFor(name, "crossed"), name);
      expect(passed).toBe(false);
      expect(new Set(faults.map(({ layer }) => layer))).toEqual(new Set([CROSSED]));
      expect(faults).toContainEqual(expect.objectContaining({ kind: "numeric", cause: "gates-crossed" }));
    });

    it("gives a program the same outputs, in its order, as often as it asks", async () => {
      const { backend, program } = candidateFor(name);
      const tapped = new Map(
        (await collect(backend.run(images))).map((output) => [output.name, output.tensor]),
      );
      expect(program.outputs.map(({ layer }) => layer)).toEqual(["fc.2", "classifier"]);
      const model = program.load();
      for (const input of [images, rowOf(images, 1), images]) {
        const found = (await model.run(input)).map(copyOf);
        for (const [index, { layer }] of program.outputs.entries()) {
          const whole = tapped.get(layer) as Tensor<"float32">;
          expectClose(found[index], input === images ? whole : rowOf(whole, 1), layer);
        }
      }
      await model.release();
    });

    it("gives the same where it does not rewrite the graph", async () => {
      const { program } = candidateFor(name);
      const [first, second] = [program.load(), program.load({ optimised: false })];
      const expected = (await first.run(images)).map(copyOf);
      await first.release();
      const found = await second.run(images);
      for (const [index, value] of expected.entries()) expectClose(found[index], value, `output ${index}`);
      await second.release();
    });

    it("starts anew where nobody read on", async () => {
      const { backend, program } = candidateFor(name);
      for await (const { name } of backend.run(images)) if (name === "conv1.relu") break;
      const model = program.load();
      await model.release();
      const [output] = await collect(backend.run(images));
      expect(output?.name).toBe("conv1.conv");
    });

    it("refuses images that the model does not take", async () => {
      const wrong = seededImages(0, 1, 32, 32);
      const { backend, program } = candidateFor(name);
      const model = program.load();
      for (const run of [() => model.run(wrong), () => collect(backend.run(wrong))]) {
        const error = await run().then(
          () => undefined,
          (error: unknown) => error,
        );
        expect(error).toBeInstanceOf(InputError);
        expect((error as InputError).problem).toMatchObject({
          code: "tensor",
          found: expect.stringContaining(`${name} failed on images [1, 3, 32, 32]`),
        });
      }
      await model.release();
      // It is not lost by that.
      expect((await program.load().run(images)).length).toBe(2);
    });
  });
}
