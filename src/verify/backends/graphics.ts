import type { RuntimeFacts } from "./backend.js";

/** What is used of a browser's interfaces, whose types this package does not compile with. */
interface Browser {
  readonly navigator?: {
    readonly gpu?: { requestAdapter(): Promise<{ readonly info: Partial<Record<string, unknown>> } | null> };
  };
  readonly OffscreenCanvas?: new (
    width: number,
    height: number,
  ) => {
    getContext(kind: "webgl2"): WebglContext | null;
  };
}

interface WebglContext {
  getExtension(name: string): { readonly UNMASKED_RENDERER_WEBGL?: number; loseContext?(): void } | null;
  getParameter(name: number): unknown;
}

/** The graphics card and driver behind one of a browser's engines, as far as the browser names them; nothing of others. */
export async function graphicsOf(engine: string): Promise<RuntimeFacts> {
  const gpu = engine === "webgpu" ? await webgpuAdapter() : engine === "webgl" ? webglRenderer() : undefined;
  return gpu === undefined ? {} : { gpu };
}

async function webgpuAdapter(): Promise<string | undefined> {
  const { navigator } = globalThis as unknown as Browser;
  const adapter = await navigator?.gpu?.requestAdapter();
  if (!adapter) return undefined;
  // A driver is named in browsers that are started for developers.
  const { vendor, architecture, device, description, backend, driver } = adapter.info;
  const words = [vendor, architecture, device, description, backend, driver].filter(
    (word, index, all) => typeof word === "string" && word !== "" && all.indexOf(word) === index,
  );
  return words.length > 0 ? words.join(", ") : "unnamed";
}

function webglRenderer(): string | undefined {
  const { OffscreenCanvas } = globalThis as unknown as Browser;
  const context = OffscreenCanvas && new OffscreenCanvas(1, 1).getContext("webgl2");
  if (!context) return undefined;
  const renderer = context.getExtension("WEBGL_debug_renderer_info")?.UNMASKED_RENDERER_WEBGL;
  const name = renderer === undefined ? "unnamed" : String(context.getParameter(renderer));
  context.getExtension("WEBGL_lose_context")?.loseContext?.();
  return name;
}
