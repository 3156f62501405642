import type { Checkpoint } from "../../src/convert/import/checkpoint.js";
import type { RealTensor, Tensor } from "../../src/core/tensor.js";
import type { Backend, LayerOutput } from "../../src/verify/backends/backend.js";
import { referenceBackend } from "../../src/verify/backends/reference.js";

/** A checkpoint that candidates are held against, and what the network computes of some images. */
export interface Subject {
  readonly name: string;
  readonly checkpoint: Checkpoint;
  readonly images: Tensor<"float32">;
  /** The reference network's values, each of them computed once for all candidates. */
  readonly reference: Backend;
  readonly expected: ReadonlyMap<string, RealTensor>;
}

export async function subjectOf(
  name: string,
  checkpoint: Checkpoint,
  images: Tensor<"float32">,
): Promise<Subject> {
  const backend = referenceBackend(checkpoint.graph, checkpoint.stateDict);
  const expected = await collect(backend, images);
  return { name, checkpoint, images, reference: replayed(backend, expected), expected };
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
