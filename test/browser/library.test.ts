import { gzipSync } from "node:zlib";
import type { Browser, Page } from "puppeteer-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { lowerToOnnx } from "../../src/convert/export/onnx.js";
import { encodeOnnx, encodeOnnxFiles } from "../../src/convert/formats/onnx/encode.js";
import { readFixture } from "../fixtures.js";
import { browserMissing, openBrowser } from "../support/browser.js";
import { buildForBrowsers, bundle } from "../support/bundle.js";
import { blocks, text } from "../support/markdown.js";
import { openFixture, SMALL } from "../support/osnet.js";
import { type Server, serve } from "../support/server.js";

const absent = browserMissing();

/** What a page of ours would have besides docs/library.md's function: the verifier, on files that it is given. */
const VERIFY = `
import { openVerification, verify } from "osnet-convert";
export async function hold(candidate, reference) {
  const { passed, layers, gates, backend } = await verify(await openVerification(candidate, reference));
  return { passed, layers: layers.length, gates: gates.length, backend };
}`;

/** Where the server has tfjs's WebAssembly. */
const WASM = `
import { setWasmPaths } from "@tensorflow/tfjs-backend-wasm";
setWasmPaths("node_modules/@tensorflow/tfjs-backend-wasm/dist/");`;

describe.skipIf(absent)(`the library in a browser ${absent || ""}`, () => {
  let browser: Browser;
  let server: Server;
  let page: Page;
  beforeAll(async () => {
    const [convert = "", chosen = ""] = blocks("docs/library.md", "js");
    server = await serve();
    for (const [path, content] of await bundle(
      `${convert.replaceAll("webgl", "cpu")}\nexport { tf };\n${VERIFY}`,
    ))
      server.files.set(path, content);
    for (const [path, content] of await bundle(`${WASM}\n${chosen}`, "chosen"))
      server.files.set(path, content);
    for (const name of ["osnet_x0_25.pth", "osnet_x0_25.64x32.npz"])
      server.files.set(name, readFixture(name));
    const { graph, stateDict } = openFixture();
    const model = lowerToOnnx(graph, stateDict, { size: SMALL });
    const beside = encodeOnnxFiles(model, "m.data");
    server.files.set("m.onnx", encodeOnnx(model)).set("beside.onnx", beside.bytes).set("m.data", beside.data);
    server.files.set(
      "index.html",
      `<!doctype html><link rel="icon" href="data:,">
      <script type="module">
        const library = await import("./page.js");
        const bytesOf = async (name) => new Uint8Array(await (await fetch(name)).arrayBuffer());
        window.convert = async (name, bytes) => {
          const file = new File([bytes ?? await bytesOf(name)], name);
          const { osnet, ...told } = await library.convert(file);
          if (!osnet) return told;
          const features = osnet.predict(library.tf.fill([1, 256, 128, 3], 128));
          return { ...told, shape: features.shape, isFinite: (await features.data()).every(Number.isFinite) };
        };
        const web = await import("./chosen.js");
        window.convertChosen = async (name, bytes) => {
          let layers = 0;
          const file = new File([bytes ?? await bytesOf(name)], name);
          const { files, html, ...told } = await web.convertChosen([file], (done) => (layers = done));
          return files ? { ...told, layers, files: [...files.keys()], isReport: html.startsWith("<!doctype html>") } : told;
        };
        window.hold = async (...names) =>
          library.hold(...await Promise.all(names.map(async (name) => ({ name, bytes: await bytesOf(name) }))));
        window.holdWith = async (path, candidate, reference) => {
          const beside = new Map([[path, await bytesOf(path)]]);
          const [model, checkpoint] = await Promise.all([candidate, reference].map(bytesOf));
          return library.hold({ name: candidate, bytes: model, beside }, { name: reference, bytes: checkpoint });
        };
      </script>`,
    );
    browser = await openBrowser();
    page = await browser.newPage();
    await page.goto(`${server.origin}/index.html`);
    await page.waitForFunction("window.hold !== undefined");
  });
  afterAll(async () => {
    await browser?.close();
    server?.close();
  });

  it("is as large as docs/library.md says", async () => {
    const [convert = ""] = blocks("docs/library.md", "js");
    // TensorFlow.js is as large as it is.
    const own = convert.replace(/^import .*@tensorflow.*$/gm, "").replace("await tf.setBackend", "void");
    const code = (await bundle(`const loadGraphModel = (model) => model;\n${own}`)).get("page.js") ?? "";
    const [, plain, compressed] = /is (\d+) kB, (\d+) kB compressed/.exec(text("docs/library.md")) ?? [];
    // It grows with what it can do; a runtime or a format drawn in by accident would double it.
    for (const [found, said] of [
      [code.length, plain],
      [gzipSync(code).length, compressed],
    ])
      expect(Math.abs(Number(found) / 1000 / Number(said) - 1)).toBeLessThan(0.25);
  });

  it("is at most 120 kB for a page that converts checkpoints, without runtimes and what runs them", async () => {
    const source = 'export { convert, groupFiles, inspect, openChosen } from "osnet-convert/web";';
    const chunks = new Map((await buildForBrowsers(source, "size")).map((file) => [file.fileName, file]));
    const loaded = (name: string, seen = new Set<string>()): ReadonlySet<string> => {
      const chunk = chunks.get(name);
      if (seen.has(name) || chunk?.type !== "chunk") return seen;
      seen.add(name);
      for (const other of chunk.imports) loaded(other, seen);
      return seen;
    };
    const sizeOf = (names: Iterable<string>): number =>
      [...names].reduce((sum, name) => {
        const chunk = chunks.get(name);
        return sum + (chunk?.type === "chunk" ? gzipSync(chunk.code).length / 1000 : 0);
      }, 0);
    const first = sizeOf(loaded("size.js"));
    const all = sizeOf(chunks.keys());
    expect(first).toBeLessThan(120);
    const [, said, further] = /are (\d+) kB compressed, (\d+) kB more/.exec(text("docs/library.md")) ?? [];
    expect(Math.abs(first / Number(said) - 1)).toBeLessThan(0.1);
    expect(Math.abs((all - first) / Number(further) - 1)).toBeLessThan(0.1);
  });

  it("verifies what a user chose, in the runtime that is loaded for it", async () => {
    expect(await page.evaluate(`convertChosen("osnet_x0_25.pth")`)).toEqual({
      passed: true,
      layers: expect.any(Number),
      files: ["model.json", "group1-shard1of1.bin"],
      isReport: true,
    });
    expect(await page.evaluate(`convertChosen("w.pth", "no checkpoint")`)).toEqual({
      refusal: expect.stringMatching(/^w\.pth: found .*, expected a PyTorch checkpoint; .*\.$/),
    });
  });

  it("converts a checkpoint for tfjs", async () => {
    expect(await page.evaluate(`convert("osnet_x0_25.pth")`)).toEqual({
      variant: "osnet_x0_25",
      shape: [1, 512],
      isFinite: true,
    });
  });

  it("refuses other networks in one sentence", async () => {
    expect(await page.evaluate(`convert("photo.pth", new Uint8Array([137, 80, 78, 71]))`)).toEqual({
      refusal: expect.stringMatching(/^photo\.pth: found .*, expected a PyTorch checkpoint; .*\.$/),
    });
  });

  it("holds a checkpoint against PyTorch's activations", async () => {
    const held = await page.evaluate(`hold("osnet_x0_25.pth", "osnet_x0_25.64x32.npz")`);
    expect(held).toEqual({ passed: true, layers: 445, gates: 24, backend: "reference" });
  });

  it("holds an ONNX file against its checkpoint, in onnxruntime's WebAssembly", async () => {
    const held = await page.evaluate(`hold("m.onnx", "osnet_x0_25.pth")`);
    expect(held).toEqual({ passed: true, layers: 378, gates: 24, backend: "onnxruntime-web" });
  });

  it("contains one with external weights", async () => {
    const held = await page.evaluate(`holdWith("m.data", "beside.onnx", "osnet_x0_25.pth")`);
    expect(held).toEqual({ passed: true, layers: 378, gates: 24, backend: "onnxruntime-web" });
  });
});
