import { expand, type LayerNode, type OsnetSpec } from "osnet-convert/web";

/** What a cell of the network's picture is; words.ts names each. */
export type CellKind =
  | "input"
  | "conv"
  | "light"
  | "gate"
  | "sum"
  | "add"
  | "downsample"
  | "norm"
  | "pool"
  | "linear";

/** A module of the network, or a gate of one stream: some layers that are drawn as one. */
export interface Cell {
  /** torchreid's path of the module. */
  readonly name: string;
  readonly kind: CellKind;
  /** Names of its layers, as reports have them. */
  readonly layers: readonly string[];
}

/** Modules in a row, or a residual block with its streams one below the other. */
export interface Group {
  readonly name: string;
  readonly before: readonly Cell[];
  /** Of each stream, from the first: its light convolutions, then its gate. */
  readonly streams: readonly (readonly Cell[])[];
  readonly after: readonly Cell[];
}

/** The network as blocks, streams and gates, in plain data. */
export function pictureOf(spec: OsnetSpec): readonly Group[] {
  const groups = new Map<string, Map<string, { node: LayerNode; layers: string[] }>>();
  for (const node of expand(spec).nodes) {
    const group = groups.get(groupOf(node)) ?? new Map();
    groups.set(groupOf(node), group);
    const name = moduleOf(node);
    const cell = group.get(name) ?? { node, layers: [] };
    group.set(name, cell);
    cell.layers.push(node.name);
  }
  return [...groups].map(([name, cells]) => {
    const all = [...cells].map(([module, { node, layers }]) => ({
      cell: { name: module, kind: kindOf(module, node), layers },
      stream: node.stream,
    }));
    const first = all.findIndex(({ stream }) => stream !== undefined);
    const streams = new Map<number, Cell[]>();
    for (const { cell, stream } of all)
      if (stream !== undefined) streams.set(stream, [...(streams.get(stream) ?? []), cell]);
    const plain = (from: number, to?: number): Cell[] =>
      all.slice(from, to).flatMap(({ cell, stream }) => (stream === undefined ? [cell] : []));
    return first < 0
      ? { name, before: plain(0), streams: [], after: [] }
      : { name, before: plain(0, first), streams: [...streams.values()], after: plain(first) };
  });
}

/** A single block; around them the stem, each transition, and what follows the last stage. */
function groupOf({ name, block }: LayerNode): string {
  if (block !== undefined) return block;
  if (/^(images|conv1\b|maxpool)/.test(name)) return "conv1";
  if (/^(global_|fc\b|classifier)/.test(name)) return "fc";
  return name.replace(/^((?:conv|pool)\d+(?:\.2)?)\..*$/, "$1");
}

/** The module whose layers are one cell. */
function moduleOf({ name, block, stream }: LayerNode): string {
  if (block === undefined)
    return name.replace(
      /^(conv1|conv5|fc|classifier|global_\w+|(?:conv\d+\.2|pool\d+)\.\d+|conv\d+)\..*$/,
      "$1",
    );
  const inside = name.slice(block.length + 1);
  if (stream !== undefined)
    return `${block}.${inside.replace(/^(gate\[\d+\]|conv2[a-z](?:\.\d+)?|conv2\.\d+\.layers\.\d+).*$/, "$1")}`;
  return inside === "add" || inside === "" ? `${block}.add` : `${block}.${inside.replace(/\..*$/, "")}`;
}

function kindOf(module: string, { op, stream }: LayerNode): CellKind {
  if (stream !== undefined) return module.includes(".gate[") ? "gate" : "light";
  if (op.kind === "input") return "input";
  if (/\.aggregate$/.test(module)) return "sum";
  if (/\.add$/.test(module)) return "add";
  if (/\.downsample$/.test(module)) return "downsample";
  if (/pool/i.test(op.kind)) return "pool";
  if (op.kind === "linear") return "linear";
  return op.kind === "instanceNorm" ? "norm" : "conv";
}
