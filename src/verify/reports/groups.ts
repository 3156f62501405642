import type { Fault, GateResult, LayerResult, ParityReport } from "../report.js";

/** A part of the network as torchreid's module paths show it: a residual block, the stem, a transition, the embedding. */
export interface LayerGroup {
  readonly name: string;
  readonly layers: readonly LayerResult[];
  readonly gates: readonly GateResult[];
  readonly faults: readonly Fault[];
}

/** The report's layers, gates and faults by part of the network, in network order. */
export function groupLayers(report: ParityReport): readonly LayerGroup[] {
  const names = new Set([...report.layers.map(({ name }) => groupOf(name)), ...faultGroups(report)]);
  return [...names].map((name) => ({
    name,
    layers: report.layers.filter((layer) => groupOf(layer.name) === name),
    gates: report.gates.filter(({ block }) => block === name),
    faults: report.faults.filter(({ layer }) => groupOf(layer) === name),
  }));
}

/** Faults of layers that nothing was compared for, such as missing ones. */
function faultGroups({ faults }: ParityReport): readonly string[] {
  return faults.map(({ layer }) => groupOf(layer));
}

/** `conv2.0.gate[1].fc1` is of `conv2.0`; `conv1.bn` of `conv1`; `fc.1` of `fc`; `pool2.0` of `pool2`. */
export function groupOf(layer: string): string {
  return /^conv\d+\.\d+(?=[.[]|$)/.exec(layer)?.[0] ?? /^[^.[]*/.exec(layer)?.[0] ?? layer;
}

/**
 * The parts of several networks in one order that keeps each network's own as far as they agree: a part that only some
 * have stands where it does there.
 */
export function joinOrders(orders: readonly (readonly string[])[]): readonly string[] {
  const joined: string[] = [];
  for (const order of orders) {
    let at = 0;
    for (const name of order) {
      const found = joined.indexOf(name);
      if (found < 0) joined.splice(at, 0, name);
      at = (found < 0 ? at : found) + 1;
    }
  }
  return joined;
}
