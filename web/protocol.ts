/** What the window and its worker say to each other. Files travel as handles (`Blob`), never as copies. */
import type {
  Anomaly,
  ChosenModel,
  ConvertOptions,
  Fault,
  FileFormat,
  InputErrorCode,
  RuntimeName,
  Target,
} from "osnet-convert/web";
import type { Group } from "./picture.js";

/** Work for a worker. A worker does one job and no other, so that ending it gives all memory back. */
export type Job =
  | { readonly kind: "inspect"; readonly model: ChosenModel; readonly options: ConvertOptions }
  | {
      readonly kind: "convert";
      readonly model: ChosenModel;
      readonly name: string;
      readonly target: Target;
      readonly options: ConvertOptions;
      readonly backend: RuntimeName | undefined;
    }
  | {
      readonly kind: "verify";
      readonly candidate: ChosenModel;
      readonly reference: ChosenModel;
      readonly options: ConvertOptions;
      readonly backend: RuntimeName | undefined;
    }
  | {
      readonly kind: "pictures";
      readonly model: ChosenModel;
      readonly options: ConvertOptions;
      /** The converted model, to compare with the original; without it, the model itself is run. */
      readonly converted: ChosenModel | undefined;
      readonly pictures: readonly { readonly name: string; readonly blob: Blob }[];
    };

/** What each kind of job gives. */
export interface Results {
  readonly inspect: Summary;
  readonly convert: Converted;
  readonly verify: Verdict;
  readonly pictures: Pictures;
}

export type Step = "open" | "convert" | "source" | "load" | "verify" | "embed" | "report";

export type Message =
  | { readonly kind: "step"; readonly step: Step; readonly done?: number; readonly total?: number }
  /** What an inspection knows before it is done. */
  | { readonly kind: "early"; readonly result: Summary }
  | { readonly kind: "done"; readonly result: Results[keyof Results] }
  | {
      readonly kind: "refused";
      readonly sentence: string;
      readonly code: InputErrorCode;
      readonly details: readonly string[];
    }
  | { readonly kind: "crashed"; readonly message: string };

/** What a file is. */
export interface Summary {
  readonly role: "checkpoint" | "model" | "recording";
  readonly format: FileFormat;
  /** How it is stored, in words. */
  readonly container: string;
  /** Of the file, and those beside it that it needs. */
  readonly bytes: number;
  readonly sha256: string;
  readonly network?: {
    /** The variant, or the nearest one and what is otherwise. */
    readonly name: string;
    readonly classes: number | null;
    readonly embedding: number;
    readonly parameters: number;
    readonly multiplyAdds: number | null;
    readonly extra: readonly string[];
    readonly picture: readonly Group[];
  };
  readonly weights?: {
    readonly fingerprint: string;
    readonly folded: string;
    readonly dtypes: readonly string[];
  };
  readonly model?: {
    readonly batch: number | null;
    readonly size: { readonly height: number; readonly width: number } | null;
    readonly outputs: readonly string[];
    readonly batchNorms: { readonly folded: number; readonly kept: number } | null;
  };
  readonly anomalies: readonly Pick<Anomaly, "severity" | "explanation" | "count" | "tensors">[];
  readonly notes: readonly string[];
  /** Why a model is not an OSNet. */
  readonly refusal?: string;
}

/** A module's result, by the name of its layer. */
export interface LayerMark {
  readonly name: string;
  readonly status: "pass" | "fail" | "untested";
  readonly margin: number | null;
}

/** What a verification found, as far as the page shows it; the report has the rest. */
export interface Verdict {
  readonly passed: boolean;
  readonly candidate: string;
  readonly reference: string;
  readonly backend: string;
  readonly layers: readonly LayerMark[];
  readonly gates: number;
  readonly faults: readonly (Pick<Fault, "kind" | "explanation" | "margin"> & {
    readonly name: string;
    /** Of each stream in which a gate is wrong. */
    readonly layers: readonly string[];
  })[];
  readonly worst: { readonly name: string; readonly margin: string } | null;
  readonly drift: number | null;
  readonly proof: {
    readonly isProven: boolean;
    readonly within: number | null;
    readonly images: number;
  } | null;
  readonly quantised: { readonly dtypes: string; readonly cosine: number } | null;
  readonly warnings: readonly string[];
  readonly picture: readonly Group[];
  readonly seconds: number;
  /** The report of the command line, as one page of HTML. */
  readonly report: Blob;
}

/** A file to download. */
export interface Download {
  readonly name: string;
  readonly blob: Blob;
}

export interface Converted {
  readonly passed: boolean;
  /** Of a model. */
  readonly verdict?: Verdict;
  /** Of weights, which are compared bit for bit. */
  readonly weights?: {
    readonly tensors: number;
    readonly differences: readonly string[];
    readonly seconds: number;
  };
  /** The result, or one zip of several files; absent if it did not pass. */
  readonly download?: Download;
  /** The result's files as they are, to be opened again. */
  readonly files: ChosenModel;
  readonly notes: readonly string[];
  readonly zeros: number;
  readonly lifted?: { readonly layers: number; readonly gates: number };
}

/** A gate's values on a picture: [stream][channel], from 0 for shut. */
export interface GateMap {
  readonly block: string;
  readonly streams: readonly (readonly number[])[];
}

export interface Pictures {
  readonly backend: string;
  readonly pictures: readonly {
    readonly name: string;
    /** Of the original's embedding and the converted model's; null where there is only one. */
    readonly cosine: number | null;
    readonly gates: readonly GateMap[];
  }[];
  /** Of the two pictures, by the original and by the model; null for one picture. */
  readonly between: { readonly original: number; readonly model: number | null } | null;
}
