import { expect, it } from "vitest";
import { decodeOnnx } from "../../../src/convert/formats/onnx/decode.js";
import type { OnnxNode } from "../../../src/convert/formats/onnx/model.js";
import { matchGraph } from "../../../src/convert/import/match.js";
import type { Tensor } from "../../../src/core/tensor.js";
import { openVerification } from "../../../src/verify/open.js";
import { verify } from "../../../src/verify/verify.js";
import { anonymous } from "../../convert/import/graphs.js";
import { ALL } from "../../fixtures.js";
import { type TinyNetwork, tinyCheckpoint } from "../../mutation/families.js";
import { type OnnxEdit, replaced } from "../../mutation/onnx-edits.js";
import { convert, openReference, rewriteOnnx, SMALL } from "../../support/osnet.js";

/**
 * Ways in which a layer may be written that compute the same for every input, each with a twin that differs in one number: the
 * first passes in onnxruntime, the second is one fault at its layer. `TESTS=all` runs the twins too, and the right ones with
 * our names.
 */

export interface Pair {
  readonly name: string;
  readonly layer: string;
  readonly right: OnnxEdit;
  readonly wrong: OnnxEdit;
  readonly family?: TinyNetwork;
  /** Of twins whose graph is right, and not their numbers, that no runtime runs, or that are found at another layer. */
  readonly twin?: "numeric" | "structural" | "elsewhere";
  /** The operator set, if not 13. */
  readonly opset?: number;
  /** Whether batch norms are folded. Default: true. */
  readonly fold?: boolean;
}

/** The same nodes, with a number that is right and one that is not. */
export function pair<T>(
  layer: string,
  name: string,
  [right, wrong]: readonly [T, T],
  edit: (number: T) => OnnxEdit,
  more: Pick<Pair, "family" | "twin" | "opset" | "fold"> = {},
): Pair {
  return { name, layer, right: edit(right), wrong: edit(wrong), ...more };
}

export type Constants = Readonly<Record<string, Tensor>>;

/** Nodes that compute `y`, as the node before them did of `x`. */
export const at = (
  layer: string,
  nodes: (x: string, y: string, node: OnnxNode) => readonly OnnxNode[],
  constants: Constants = {},
): OnnxEdit => replaced(layer, (node) => nodes(node.inputs[0] ?? "", layer, node), constants);

/** Nodes behind a layer, which hand it on as `y`. */
export const behind = (
  layer: string,
  nodes: (before: string, y: string) => readonly OnnxNode[],
  constants: Constants = {},
): OnnxEdit =>
  replaced(
    layer,
    (node) => [{ ...node, name: "before", outputs: ["before"] }, ...nodes("before", layer)],
    constants,
  );

/** The numbers from 0 on. */
export const upTo = (count: number): readonly number[] => Array.from({ length: count }, (_, i) => i);

function written(
  { family = "block", opset = 13, fold = true }: Pair,
  edit: OnnxEdit,
  isNamed: boolean,
): Uint8Array {
  const bytes = convert(tinyCheckpoint(family), { opset, fold });
  return rewriteOnnx(bytes, (model) => (isNamed ? edit(model) : anonymous(edit(model))));
}

async function faultsOf(row: Pair, bytes: Uint8Array): Promise<readonly string[]> {
  const reference = openReference(tinyCheckpoint(row.family ?? "block"));
  const opened = await openVerification({ name: "m.onnx", bytes }, reference, { size: SMALL });
  const { passed, faults } = await verify(opened);
  expect(passed).toBe(faults.length === 0);
  return faults.map(({ layer }) => layer);
}

/** The tests of pairs. */
export function testPairs(...pairs: readonly Pair[]): void {
  it.each(pairs.map((row) => [row.name, row] as const))(
    "%s is read, and its wrong twin found",
    async (_, row) => {
      expect(await faultsOf(row, written(row, row.right, false))).toEqual([]);
      const wrong = written(row, row.wrong, false);
      const { graph } = tinyCheckpoint(row.family ?? "block");
      if (row.twin !== "numeric") {
        const { differences } = matchGraph(decodeOnnx(wrong, { subject: "m.onnx" }), {
          subject: "m.onnx",
          graph,
        });
        const found = differences.map(({ layer }) => layer);
        if (row.twin === "elsewhere")
          expect(found.length > 0 ? found : await faultsOf(row, wrong)).not.toEqual([]);
        else expect(found).toEqual([row.layer]);
      }
      if ((ALL && row.twin === undefined) || row.twin === "numeric")
        expect(await faultsOf(row, wrong)).toEqual([row.layer]);
      if (!ALL || row.twin === "numeric") return;
      expect(await faultsOf(row, written(row, row.right, true))).toEqual([]);
    },
  );
}
