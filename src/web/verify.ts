import { isWeightsTarget } from "../convert/export/write.js";
import type { SourceFile } from "../convert/open/open-file.js";
import type { RuntimeName } from "../verify/backends/backend.js";
import type { Verification } from "../verify/candidate/candidate.js";
import { type OpenOptions, openVerification } from "../verify/open.js";
import type { ParityReport, Tolerance } from "../verify/outcome/report.js";
import { verify, verifyLifted } from "../verify/verify.js";
import { type Conversion, compareWritten } from "./convert.js";

/** How a verification judges, and how it reports progress. */
export interface VerifyOptions extends Pick<Verification, "onProgress"> {
  /** Default: each layer within its own rounding bound, where there is a checkpoint. */
  readonly tolerance?: Tolerance;
}

/**
 * Holds a model against a checkpoint, a recording or another model, as `osnet-verify` does.
 *
 * @throws InputError if a file cannot be used, the two do not go together, or no runtime for the model is there
 */
export async function verifyFiles(
  candidate: SourceFile,
  reference: SourceFile,
  { onProgress, tolerance, ...options }: OpenOptions & VerifyOptions = {},
): Promise<ParityReport> {
  return verify({
    ...(await openVerification(candidate, reference, options)),
    ...(onProgress ? { onProgress } : {}),
    ...(tolerance ? { tolerance } : {}),
  });
}

/** How a conversion is verified. */
export interface ConversionOptions extends VerifyOptions {
  /** What runs the result. Default: the first runtime of its format. */
  readonly backend?: RuntimeName;
  /** As passed to `convert`: dropped outputs of a source model need not agree. */
  readonly dropExtra?: boolean;
}

/** What a conversion is worth. */
export interface Verified {
  /** Whether the result matches its source. */
  readonly passed: boolean;
  /** Of a model: layer by layer. */
  readonly report?: ParityReport;
  /** Of weights: what does not read back bit for bit. */
  readonly differences?: readonly string[];
  /** For a model as the source: its comparison with the network of its own weights. */
  readonly lifted?: ParityReport;
}

/**
 * Verifies a conversion as the command line does before it writes: a source model against its imported weights, then
 * the result layer by layer against those, or weights bit for bit. The result is opened from its bytes.
 *
 * @throws InputError (`unsupported`) if a source model does not compute what its weights say, or no runtime is
 * available
 */
export async function verifyConversion(
  conversion: Conversion,
  { backend, dropExtra, ...options }: ConversionOptions = {},
): Promise<Verified> {
  const { source, result, target } = conversion;
  const { onProgress } = options;
  const lifted = await verifyLifted(source, {
    ...(dropExtra === undefined ? {} : { dropExtra }),
    ...(onProgress ? { onProgress } : {}),
  });
  const before = lifted ? { lifted } : {};
  if (isWeightsTarget(target)) {
    const differences = compareWritten(conversion);
    return { passed: differences.length === 0, differences, ...before };
  }
  const report = await verifyFiles(result, source, { ...options, ...(backend ? { backend } : {}) });
  return { passed: report.passed, report, ...before };
}
