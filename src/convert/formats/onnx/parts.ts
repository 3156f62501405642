import { concatenate } from "../../../core/bytes.js";
import type { Shape } from "../../../core/tensor.js";
import { ATTRIBUTE, GRAPH, MODEL, NODE, TENSOR, VALUE } from "./messages.js";
import { dtypeToCode } from "./model.js";
import { fieldsOf, serializeModel, varint, type WireField } from "./wire.js";

/**
 * Parts of a serialized model that run on their own: some nodes and what they read, copied byte for byte, so that
 * unknown fields survive. Values that are already computed are inputs of a part.
 */
export interface OnnxParts {
  /**
   * The part that computes some values of the graph.
   *
   * @param known values that are already computed
   * @param shown further values to output if the part computes them
   */
  part(values: readonly string[], known: ReadonlySet<string>, shown: ReadonlySet<string>): OnnxPart;
  /**
   * The part as a file.
   *
   * @param given the shapes of the float32 values that are its inputs
   */
  encode(part: OnnxPart, given: ReadonlyMap<string, Shape>): Uint8Array;
}

/** Some nodes of a graph. */
export interface OnnxPart {
  /** The computed values that it reads. */
  readonly given: readonly string[];
  /** The graph's inputs that it reads. */
  readonly inputs: readonly string[];
  /** The values that it computes. */
  readonly outputs: readonly string[];
  /** Indices of the graph's nodes, in their order. */
  readonly nodes: readonly number[];
  /** Names of the constant tensors that they read. */
  readonly initializers: ReadonlySet<string>;
}

interface Node {
  readonly bytes: Uint8Array;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
}

/**
 * Reads what parts are made of. Undefined if a node may read more than its inputs say (branches and loops), or may be a
 * local function, or if weights are sparse.
 *
 * @throws RangeError if the bytes are not a complete message
 */
export function openParts(bytes: Uint8Array): OnnxParts | undefined {
  const header: Uint8Array[] = [];
  const nodes: Node[] = [];
  const names: Uint8Array[] = [];
  const initializers = new Map<string, Uint8Array>();
  const inputs = new Map<string, Uint8Array>();
  const shapes = new Map<string, Uint8Array>();
  const own = (whole: Uint8Array, { start, end }: WireField): Uint8Array => whole.subarray(start, end);
  for (const field of fieldsOf(bytes)) {
    if (field.number === MODEL.fields.functions.number) return undefined;
    if (field.number !== MODEL.fields.graph.number) {
      header.push(own(bytes, field));
      continue;
    }
    for (const part of fieldsOf(field.payload)) {
      const piece = own(field.payload, part);
      if (part.number === GRAPH.fields.sparseInitializer.number) return undefined;
      if (part.number === GRAPH.fields.node.number) {
        const node = readNode(piece, part.payload);
        if (!node) return undefined;
        nodes.push(node);
      } else if (part.number === GRAPH.fields.name.number) names.push(piece);
      else if (part.number === GRAPH.fields.initializer.number)
        initializers.set(textOf(part.payload, TENSOR.fields.name.number), piece);
      else if (part.number === GRAPH.fields.input.number)
        inputs.set(textOf(part.payload, VALUE.fields.name.number), piece);
      else if (part.number === GRAPH.fields.valueInfo.number)
        shapes.set(textOf(part.payload, VALUE.fields.name.number), piece);
    }
  }
  const producers = new Map(nodes.flatMap((node, place) => node.outputs.map((name) => [name, place])));
  return {
    part(values, known, shown) {
      const taken = new Set<number>();
      const read = new Set<string>();
      const pending = values.filter((name) => !known.has(name));
      for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
        const place = producers.get(name);
        if (place === undefined || taken.has(place)) continue;
        taken.add(place);
        for (const input of nodes[place]?.inputs ?? []) {
          read.add(input);
          if (!known.has(input)) pending.push(input);
        }
      }
      const places = [...taken].sort((a, b) => a - b);
      const wanted = new Set(values);
      return {
        given: [...read].filter((name) => known.has(name)),
        inputs: [...read].filter((name) => inputs.has(name) && !known.has(name)),
        outputs: places
          .flatMap((place) => nodes[place]?.outputs ?? [])
          .filter((name) => (wanted.has(name) || shown.has(name)) && !known.has(name)),
        nodes: places,
        initializers: new Set([...read].filter((name) => initializers.has(name))),
      };
    },
    encode(part, given) {
      const graph = [
        ...part.nodes.flatMap((place) => nodes[place]?.bytes ?? []),
        ...names,
        ...[...part.initializers].flatMap((name) => initializers.get(name) ?? []),
        ...part.inputs.flatMap((name) => inputs.get(name) ?? []),
        // Runtimes read sizes from them.
        ...part.nodes.flatMap(
          (place) => nodes[place]?.outputs.flatMap((name) => shapes.get(name) ?? []) ?? [],
        ),
      ];
      const elemType = dtypeToCode("float32");
      // Merged into the model by the caller.
      const ends = serializeModel(
        {
          graph: {
            input: part.given.map((name) => {
              const dim = (given.get(name) ?? []).map((dimValue) => ({ dimValue }));
              return { name, type: { tensorType: { elemType, shape: { dim } } } };
            }),
            output: part.outputs.map((name) => ({ name })),
          },
        },
        64 * (2 * part.given.length + part.outputs.length),
      );
      return concatenate([...header, ...graphOf(graph), ends]);
    },
  };
}

/** A model's graph of these fields. */
function graphOf(fields: readonly Uint8Array[]): readonly Uint8Array[] {
  const length = fields.reduce((sum, field) => sum + field.length, 0);
  return [Uint8Array.from([...varint(8 * MODEL.fields.graph.number + 2), ...varint(length)]), ...fields];
}

/**
 * The same file without the shapes that it states for intermediate values, which may be untrue; undefined if it states
 * none.
 *
 * @throws RangeError if the bytes are not a complete message
 */
export function withoutShapes(bytes: Uint8Array): Uint8Array | undefined {
  const parts = [...fieldsOf(bytes)].flatMap(({ number, start, end, payload }) => {
    if (number !== MODEL.fields.graph.number) return bytes.subarray(start, end);
    const fields = [...fieldsOf(payload)].filter((field) => field.number !== GRAPH.fields.valueInfo.number);
    return graphOf(fields.map((field) => payload.subarray(field.start, field.end)));
  });
  const rest = concatenate(parts);
  return rest.length < bytes.length ? rest : undefined;
}

/** Undefined if it has subgraphs, which read values of the enclosing graph. */
function readNode(bytes: Uint8Array, payload: Uint8Array): Node | undefined {
  const inputs: string[] = [];
  const outputs: string[] = [];
  for (const field of fieldsOf(payload)) {
    if (field.number === NODE.fields.input.number) inputs.push(UTF8.decode(field.payload));
    else if (field.number === NODE.fields.output.number) outputs.push(UTF8.decode(field.payload));
    else if (field.number === NODE.fields.attribute.number)
      for (const { number } of fieldsOf(field.payload))
        if (number === ATTRIBUTE.fields.g.number || number === ATTRIBUTE.fields.graphs.number)
          return undefined;
  }
  return {
    bytes,
    inputs: inputs.filter((name) => name !== ""),
    outputs: outputs.filter((name) => name !== ""),
  };
}

const UTF8 = new TextDecoder("utf-8", { ignoreBOM: true });

function textOf(message: Uint8Array, number: number): string {
  for (const field of fieldsOf(message)) if (field.number === number) return UTF8.decode(field.payload);
  return "";
}
