import type { Operator } from "../mutation.js";
import { relus, sigmoids, surplusRelus } from "./activations.js";
import { flattening } from "./heads.js";
import { inputs } from "./inputs.js";
import { batchNorms, bessel, epsilons } from "./norms.js";
import { activations, generalisedMeans, otherOutput, sums, tails, temperatures } from "./strangers.js";
import { misplaced, roundings, singleNumbers, transposed } from "./weights.js";
import { padding, pools } from "./windows.js";
import { gates, instanceNorms, lightConvolutions, streams } from "./wiring.js";

/** Every kind of mistake. */
export const OPERATORS: readonly Operator[] = [
  epsilons,
  bessel,
  batchNorms,
  singleNumbers,
  roundings,
  transposed,
  misplaced,
  gates,
  streams,
  instanceNorms,
  lightConvolutions,
  padding,
  pools,
  relus,
  surplusRelus,
  sigmoids,
  inputs,
  flattening,
  sums,
  activations,
  temperatures,
  generalisedMeans,
  tails,
  otherOutput,
];
