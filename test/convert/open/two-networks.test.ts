import { describe, expect, it } from "vitest";
import { encodeSafetensors } from "../../../src/convert/formats/safetensors.js";
import { type Checkpoint, identifyCheckpoint } from "../../../src/convert/open/checkpoint.js";
import type { Tensor } from "../../../src/core/tensor.js";
import { tinyCheckpoint } from "../../mutation/families.js";

const { stateDict, spec } = tinyCheckpoint("osnet");

/** The tiny network with further tensors. */
function read(more: Iterable<readonly [string, Tensor]>, key?: string): Checkpoint {
  const file = encodeSafetensors(new Map([...stateDict, ...more]), { subject: "w" });
  return identifyCheckpoint(file, { subject: "w", arch: spec, ...(key === undefined ? {} : { key }) });
}

const copy = (prefix: string, wanted = /./): (readonly [string, Tensor])[] =>
  [...stateDict].filter(([path]) => wanted.test(path)).map(([path, tensor]) => [`${prefix}${path}`, tensor]);

describe("a network with its tensors again, under a wrapper's prefix that others remove", () => {
  it("is refused, with the key of the other one", () => {
    expect(() => read(copy("module."))).toThrow(
      `found a network, and ${stateDict.size} of its tensors a second time, such as "module.conv1.bn.num_batches_tracked", expected the state dict of one OSNet; choose the other one with --key module, or`,
    );
    expect(read(copy("module."), "module").extra).toEqual([]);
    expect(() => read(copy("module.model."))).toThrow("--key module.model, or");
  });

  it("is refused if it is one tensor", () => {
    expect(() => read(copy("module.", /^fc\.0\.weight$/))).toThrow(
      'found a network, and 1 of its tensors a second time, such as "module.fc.0.weight", expected the state dict of one OSNet; remove',
    );
  });

  it("is not what extra heads are", () => {
    const head = copy("module.head.", /^fc\./);
    expect(read(head).extra.toSorted()).toEqual(head.map(([path]) => path).toSorted());
  });
});
