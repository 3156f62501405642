import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** The levels at which onnxruntime optimises graphs. */
export type OptimisationLevel = "basic" | "extended" | "layout" | "all";

/** The file that onnxruntime saves of a model after its optimiser has rewritten it, for the processor that this runs on. */
export async function optimisedFile(bytes: Uint8Array, level: OptimisationLevel): Promise<Uint8Array> {
  const folder = await mkdtemp(join(tmpdir(), "osnet-optimised-"));
  const [plain, optimised] = [join(folder, "plain.onnx"), join(folder, "optimised.onnx")];
  try {
    await writeFile(plain, bytes);
    const { InferenceSession } = await import("onnxruntime-node");
    const session = await InferenceSession.create(plain, {
      logSeverityLevel: 4,
      executionProviders: ["cpu"],
      graphOptimizationLevel: level,
      optimizedModelFilePath: optimised,
    });
    await session.release();
    return await readFile(optimised);
  } finally {
    await rm(folder, { recursive: true });
  }
}
