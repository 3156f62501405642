import type { OutputSelection } from "../../convert/export/results.js";
import type { DistanceMetric } from "../ranking/distances.js";

/** A suite as its file says it (`schemas/osnet-suite-1.schema.json`), valid, with nothing filled in. */
export interface SuiteFile {
  readonly name?: string;
  readonly defaults?: EntryOptions;
  readonly models: Readonly<Record<string, ModelSpec>>;
  readonly candidates: Readonly<Record<string, CandidateSpec>>;
  readonly matrix?: MatrixSpec;
}

/** How an entry is verified; what an entry leaves out its candidate, then the file's `defaults`, say. */
export interface EntryOptions {
  readonly tolerance?: "auto" | number;
  readonly input?: string;
  readonly batch?: number;
  readonly size?: string;
  /** Also ranks pictures, as `osnet-verify rank` does. */
  readonly ranking?: RankingSpec;
}

/** What is ranked, and how much worse than the model it may be: the defaults are `osnet-verify rank`'s. */
export interface RankingSpec {
  /** A data set's folder or CSV. */
  readonly data: string;
  readonly distance?: DistanceMetric;
  readonly maxMapDrop?: number;
  readonly maxRank1Drop?: number;
  readonly maxFlips?: number;
  readonly maxBroken?: number;
}

/** Weights: a checkpoint or recording, or seeded ones of an architecture. */
export interface ModelSpec {
  readonly checkpoint?: string;
  readonly key?: string;
  /** A variant's name or a spec.json. */
  readonly arch?: string;
  readonly seed?: number;
}

/** What is held against a model: a file (`{model}` in its path is the model's name), or a conversion to make. */
export interface CandidateSpec extends EntryOptions {
  readonly file?: string;
  readonly convert?: "onnx" | "tfjs-graph" | "tfjs-layers";
  readonly options?: ConversionOptions;
  readonly backends?: readonly string[];
  /** The models that it is for; all, if absent. */
  readonly models?: readonly string[];
}

export interface ConversionOptions {
  readonly opset?: number;
  readonly fold?: boolean;
  readonly fuse?: boolean;
  readonly gates?: boolean;
  readonly output?: OutputSelection;
  readonly size?: string;
  readonly batch?: number;
}

/** As in CI: the product of the lists, without what `exclude` matches, with what `include` adds. */
interface MatrixSpec {
  readonly models?: readonly string[];
  readonly candidates?: readonly string[];
  readonly backends?: readonly string[];
  readonly exclude?: readonly EntryPattern[];
  readonly include?: readonly (EntryPattern & EntryOptions)[];
}

export interface EntryPattern {
  readonly model?: string;
  readonly candidate?: string;
  readonly backend?: string;
}
