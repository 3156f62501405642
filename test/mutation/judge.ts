import type { NamedBytes } from "../../src/core/bytes.js";
import type { RealTensor } from "../../src/core/tensor.js";
import type { RuntimeName } from "../../src/verify/backends/backend.js";
import { openVerification } from "../../src/verify/open.js";
import type { ParityReport } from "../../src/verify/outcome/report.js";
import { verify } from "../../src/verify/verify.js";
import { collect, type Original, replayed, runOnce } from "./original.js";

/** What the verifier says of a candidate, and what the candidate computed. */
export interface Judgement {
  readonly report: ParityReport;
  /** The same without a look at constants and structure: by values alone. */
  readonly blind: ParityReport;
  readonly values: ReadonlyMap<string, RealTensor>;
  /** The layers that it shows. */
  readonly shown: ReadonlySet<string>;
}

/** Runs a candidate once, and judges it twice. */
export async function judge(
  original: Original,
  candidate: NamedBytes,
  backend: RuntimeName | undefined,
): Promise<Judgement> {
  const { checkpoint, images } = original;
  const isRecording = candidate.name.endsWith(".npz");
  const verification = await openVerification(
    candidate,
    { name: "w.pth", bytes: new Uint8Array(), checkpoint },
    {
      ...(isRecording ? {} : { images: { source: "test", tensor: images } }),
      ...(backend ? { backend } : {}),
    },
  );
  const { candidate: opened, reference } = verification;
  const values = await collect(opened.backend, images);
  const whole = {
    ...verification,
    reference: { ...reference, backend: original.reference },
    candidate: {
      ...opened,
      backend: replayed(opened.backend, values),
      ...(opened.program ? { program: runOnce(opened.program) } : {}),
    },
  };
  const { structure: _structure, ...rest } = whole.candidate;
  const { weights: _weights, ...unweighed } = whole;
  const report = await verify(whole);
  return {
    report,
    blind: isRecording ? report : await verify({ ...unweighed, candidate: rest }),
    values,
    shown: new Set(opened.backend.layers),
  };
}
