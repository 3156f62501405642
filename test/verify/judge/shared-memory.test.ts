import { describe, expect, it } from "vitest";
import type { Tensor } from "../../../src/core/tensor.js";
import { countedUses, sharedMemory } from "../../../src/verify/judge/threads.js";

const ROOM = 64;

function tensor(length: number, value: number): Tensor<"float32"> {
  return { dtype: "float32", shape: [length], data: new Float32Array(length).fill(value) };
}

describe("sharedMemory", () => {
  it("uses memory again that was made for what found no room", async () => {
    const memory = sharedMemory(ROOM, async () => false);
    const first = await memory.share(tensor(ROOM / 4, 1));
    const second = await memory.share(tensor(ROOM / 4, 2));
    memory.free(second);
    const third = await memory.share(tensor(ROOM / 4, 3));
    expect(second.data.buffer).not.toBe(first.data.buffer);
    expect(third.data.buffer).toBe(second.data.buffer);
    expect([...new Set(first.data)]).toEqual([1]);
    expect([...new Set(third.data)]).toEqual([3]);
  });

  it("waits for room as long as somebody is at work", async () => {
    let first: Awaited<ReturnType<typeof memory.share>> | undefined;
    const memory = sharedMemory(ROOM, async () => {
      if (first) memory.free(first);
      return true;
    });
    first = await memory.share(tensor(ROOM / 4, 1));
    const second = await memory.share(tensor(ROOM / 4, 2));
    expect(second.data.buffer).toBe(first.data.buffer);
    expect([...new Set(second.data)]).toEqual([2]);
  });
});

it("releases numbers after the last use of the last tensor of them", () => {
  const uses = countedUses();
  const released: string[] = [];
  const data = new Float32Array(1);
  const [map, vector]: Tensor<"float32">[] = [
    { dtype: "float32", shape: [1, 1, 1, 1], data },
    { dtype: "float32", shape: [1, 1], data },
  ];
  const other: Tensor<"float32"> = { dtype: "float32", shape: [1], data: new Float32Array(1) };
  if (!map || !vector) throw new Error("no tensors");
  uses.hold(map, undefined);
  uses.keep(map);
  uses.hold(vector, () => released.push("both"));
  uses.hold(other, () => released.push("other"));
  uses.free(vector);
  uses.free(map);
  uses.free(other);
  expect(released).toEqual(["other"]);
  uses.free(map);
  uses.free(map);
  expect(released).toEqual(["other", "both"]);
});
