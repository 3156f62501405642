import { INPUT_NAME, type LayerNode } from "../../../src/arch/index.js";
import { type Mutation, type Operator, spread } from "../mutation.js";
import { blocksAmong, type Network, nodeOf, withNode } from "../network.js";
import { operator, replaced } from "../onnx-edits.js";
import { first, mapped } from "../tensors.js";

/** A layer that reads other values, in the order of its inputs. */
function reading(
  network: Network,
  name: string,
  change: (inputs: readonly string[]) => readonly string[],
): Network {
  const faulty = withNode(network, name, (node) => ({ ...node, inputs: change(node.inputs) }));
  return { ...faulty, graph: { ...faulty.graph, nodes: inOrder(faulty.graph.nodes) } };
}

function streamLayers({ graph }: Network, block: string, stream: number): readonly string[] {
  return graph.nodes.filter((node) => node.block === block && node.stream === stream).map(({ name }) => name);
}

/** Layers after what they read. */
function inOrder(nodes: readonly LayerNode[]): readonly LayerNode[] {
  const done = new Set<string>();
  const ordered: LayerNode[] = [];
  let waiting = [...nodes];
  while (waiting.length > 0) {
    const ready = waiting.filter(({ inputs }) => inputs.every((name) => done.has(name)));
    const [next] = ready;
    if (!next) throw new Error("layers that read each other");
    ordered.push(next);
    done.add(next.name);
    waiting = waiting.filter((node) => node !== next);
  }
  return ordered;
}

const WIRED = ["structure", "numeric"] as const;

/** Gates exchanged, shared by all streams, missing, or doubled. */
export const gates: Operator = (network) =>
  blocksAmong(network, ["conv2.0", "conv3.0"]).flatMap((block): Mutation[] => {
    const scales = network.graph.nodes.filter((node) => node.op.kind === "scale" && node.block === block);
    const [one, two] = [scales[0] as LayerNode, scales[1] as LayerNode];
    const gateOf = ({ inputs }: LayerNode): string => inputs[1] ?? "";
    const withGate = (faulty: Network, node: LayerNode, gate: string): Network =>
      reading(faulty, node.name, ([stream = ""]) => [stream, gate]);
    const gatedBy = ["gates-crossed"] as const;
    return [
      {
        operator: "gates crossed",
        says: `${block}: streams 1 and 2 have each other's gates`,
        layers: [one.name, two.name],
        causes: gatedBy,
        kinds: WIRED,
        network: withGate(withGate(network, one, gateOf(two)), two, gateOf(one)),
      },
      {
        operator: "one gate for all streams",
        says: `${block}: all streams have stream 1's gate`,
        layers: scales.slice(1).map(({ name }) => name),
        causes: gatedBy,
        kinds: WIRED,
        network: scales.slice(1).reduce((faulty, node) => withGate(faulty, node, gateOf(one)), network),
      },
      {
        operator: "gate missing",
        says: `${two.name}: stream 2 is not gated`,
        layers: [two.name],
        causes: ["gate-missing"],
        kinds: WIRED,
        network: {
          ...network,
          instead: new Map([[two.name, (inputs) => mapped(first(inputs), (x) => x)]]),
        },
        onnx: operator(two.name, "Identity"),
      },
      {
        operator: "gate twice",
        says: `${two.name}: stream 2 is gated twice`,
        // Found by structure, it is a sum of another term.
        layers: [two.name, `${block}.aggregate`],
        causes: ["gate-missing"],
        kinds: WIRED,
        network: {
          ...network,
          instead: new Map([[two.name, (inputs, own) => own([own(inputs), ...inputs.slice(1)])]]),
        },
        onnx: replaced(two.name, (own) => [
          { ...own, name: `${own.name}.once`, outputs: [`${two.name}.once`] },
          { ...own, inputs: [`${two.name}.once`, ...own.inputs.slice(1)] },
        ]),
      },
    ];
  });

/** Streams that read each other's values, a stream that is lost, a sum of other terms. */
export const streams: Operator = (network) =>
  blocksAmong(network, ["conv2.1", "conv3.0"]).flatMap((block): Mutation[] => {
    const scales = network.graph.nodes.filter((node) => node.op.kind === "scale" && node.block === block);
    const [one, two] = [scales[0] as LayerNode, scales[1] as LayerNode];
    const streamOf = ({ inputs }: LayerNode): string => inputs[0] ?? "";
    const pool = `${one.name}.global_avgpool`;
    const sum = nodeOf(network, `${block}.aggregate`);
    const swapped = reading(
      reading(network, one.name, ([, gate = ""]) => [streamOf(two), gate]),
      two.name,
      ([, gate = ""]) => [streamOf(one), gate],
    );
    return [
      {
        operator: "streams exchanged",
        says: `${block}: gates 1 and 2 scale each other's streams`,
        layers: [one.name, two.name],
        causes: ["streams-exchanged", "gates-crossed"],
        kinds: WIRED,
        network: swapped,
      },
      {
        operator: "gate of another stream's values",
        says: `${pool} averages stream 2`,
        // Found by structure, it is the product that has another gate.
        layers: [pool, one.name],
        causes: ["streams-exchanged", "gates-crossed"],
        kinds: WIRED,
        network: reading(network, pool, () => [streamOf(two)]),
      },
      ...(sum.inputs.length > 2
        ? [
            {
              operator: "stream dropped",
              says: `${sum.name} without stream 2`,
              // Found by structure, it is the stream that is not there.
              layers: [sum.name, ...streamLayers(network, block, 2)],
              notInLayers: true,
              causes: ["term-missing"],
              kinds: WIRED,
              network: reading(network, sum.name, (inputs) => inputs.filter((_, i) => i !== 1)),
            } as const,
          ]
        : []),
      {
        operator: "stream added twice",
        says: `${sum.name} with stream 1 in place of stream 2`,
        layers: [sum.name, ...streamLayers(network, block, 2)],
        notInLayers: true,
        causes: ["streams-exchanged"],
        kinds: WIRED,
        network: reading(network, sum.name, ([a = "", , ...rest]) => [a, a, ...rest]),
      },
      {
        operator: "residual missing",
        says: `${block}.add without the identity`,
        layers: [`${block}.add`],
        // A recording has no sums: there the layer after reads what should have been added.
        causes: ["term-missing", "layer-bypassed"],
        kinds: WIRED,
        network: {
          ...network,
          instead: new Map([[`${block}.add`, (inputs) => mapped(first(inputs), (x) => x)]]),
        },
        onnx: operator(`${block}.add`, "Identity"),
      },
    ];
  });

/** An instance norm on the wrong side of the residual's sum. */
export const instanceNorms: Operator = (network) => {
  const norms = network.graph.nodes.filter(({ name }) => /^conv\d\.\d\.IN(_in|_out)?$/.test(name));
  return norms.slice(0, 2).map((norm): Mutation => {
    const sum = nodeOf(network, `${norm.block}.add`);
    const isInside = sum.inputs.includes(norm.name);
    const readers = network.graph.nodes.filter(({ inputs }) =>
      inputs.includes(isInside ? sum.name : norm.name),
    );
    const [source = ""] = norm.inputs;
    // Inside: sum(source), IN(sum), readers read IN. Outside: IN(residual), sum(IN), readers read the sum.
    const moved = isInside
      ? readers.reduce(
          (faulty, { name }) =>
            withNode(faulty, name, (each) => ({
              ...each,
              inputs: each.inputs.map((input) => (input === sum.name ? norm.name : input)),
            })),
          withNode(
            withNode(network, sum.name, (each) => ({
              ...each,
              inputs: each.inputs.map((input) => (input === norm.name ? source : input)),
            })),
            norm.name,
            (each) => ({ ...each, inputs: [sum.name] }),
          ),
        )
      : readers.reduce(
          (faulty, { name }) =>
            withNode(faulty, name, (each) => ({
              ...each,
              inputs: each.inputs.map((input) => (input === norm.name ? sum.name : input)),
            })),
          withNode(
            withNode(network, sum.name, (each) => ({
              ...each,
              inputs: [norm.name, ...each.inputs.slice(1)],
            })),
            norm.name,
            (each) => ({ ...each, inputs: sum.inputs.slice(0, 1) }),
          ),
        );
    return {
      operator: "instance norm on the wrong side of the sum",
      says: `${norm.name} ${isInside ? "after" : "before"} ${sum.name}`,
      layers: [norm.name, sum.name, ...readers.map(({ name }) => name)],
      causes: ["instance-norm-misplaced", "streams-exchanged", "term-missing"],
      kinds: WIRED,
      network: { ...moved, graph: { ...moved.graph, nodes: inOrder(moved.graph.nodes) } },
    };
  });
};

/** The depthwise convolution before the pointwise one. */
export const lightConvolutions: Operator = (network) =>
  spread(network, "conv", 2, ({ op }) => op.kind === "conv" && op.groups > 1).map((depthwise): Mutation => {
    const [pointwise = ""] = depthwise.inputs;
    const [input = INPUT_NAME] = nodeOf(network, pointwise).inputs;
    const reader = network.graph.nodes.find(({ inputs }) => inputs.includes(depthwise.name));
    if (!reader) throw new Error(`nothing reads ${depthwise.name}`);
    const faulty = reading(
      withNode(
        withNode(network, depthwise.name, (each) => ({ ...each, inputs: [input] })),
        reader.name,
        (each) => ({ ...each, inputs: [pointwise] }),
      ),
      pointwise,
      () => [depthwise.name],
    );
    return {
      operator: "depthwise before pointwise",
      says: `${depthwise.name} before ${pointwise}`,
      layers: [depthwise.name, pointwise, reader.name],
      causes: ["layer-bypassed"],
      kinds: WIRED,
      network: faulty,
    };
  });
