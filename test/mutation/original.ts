import type { Checkpoint } from "../../src/convert/open/checkpoint.js";
import { type RealTensor, sameShape, type Tensor } from "../../src/core/tensor.js";
import type { Backend, LayerOutput, LoadedModel } from "../../src/verify/backends/backend.js";
import { referenceBackend } from "../../src/verify/backends/references.js";
import type { Candidate } from "../../src/verify/candidate/candidate.js";

/** A checkpoint that candidates are held against, and what the network computes of some images. */
export interface Original {
  readonly name: string;
  readonly checkpoint: Checkpoint;
  readonly images: Tensor<"float32">;
  /** The reference network's values, computed when they are first asked for, and once for all candidates. */
  readonly expected: () => Promise<ReadonlyMap<string, RealTensor>>;
  /** The network, which gives those. */
  readonly reference: Backend;
}

export function originalOf(name: string, checkpoint: Checkpoint, images: Tensor<"float32">): Original {
  const backend = referenceBackend(checkpoint.graph, checkpoint.stateDict);
  let values: Promise<ReadonlyMap<string, RealTensor>> | undefined;
  const expected = () => {
    values ??= collect(backend, images);
    return values;
  };
  const reference = {
    ...backend,
    async *run(given: Tensor<"float32">): AsyncGenerator<LayerOutput> {
      if (!isSame(given, images)) return yield* backend.run(given);
      for (const [name, tensor] of await expected()) yield { name, tensor };
    },
  };
  return { name, checkpoint, images, expected, reference };
}

function isSame(a: Tensor<"float32">, b: Tensor<"float32">): boolean {
  return (
    a.data === b.data ||
    (sameShape(a.shape, b.shape) && a.data.every((value, index) => value === b.data[index]))
  );
}

/** All that a backend computes; it may use a tensor's memory again. */
export async function collect(
  backend: Backend,
  images: Tensor<"float32">,
): Promise<ReadonlyMap<string, RealTensor>> {
  const values = new Map<string, RealTensor>();
  for await (const { name, tensor } of backend.run(images))
    values.set(name, { ...tensor, data: tensor.data.slice() } as RealTensor);
  return values;
}

/** A backend that gives what it gave before. */
export function replayed<B extends Backend>(backend: B, values: ReadonlyMap<string, RealTensor>): B {
  return {
    ...backend,
    async *run(): AsyncGenerator<LayerOutput> {
      for (const [name, tensor] of values) yield { name, tensor };
    },
  };
}

type Program = NonNullable<Candidate["program"]>;

/** A model that is run once on the same images in the same way, however often it is loaded. */
export function runOnce(program: Program): Program {
  const runs: { readonly how: string; readonly images: Tensor<"float32">; readonly values: Values }[] = [];
  return {
    ...program,
    load(options) {
      const how = JSON.stringify(options ?? {});
      let model: LoadedModel | undefined;
      return {
        run(images) {
          const known = runs.find((run) => run.how === how && isSame(run.images, images));
          if (known) return known.values;
          model ??= program.load(options);
          const values = model.run(images);
          runs.push({ how, images, values });
          return values;
        },
        release: async () => model?.release(),
      };
    },
  };
}

type Values = ReturnType<LoadedModel["run"]>;
