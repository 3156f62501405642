import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import type { Browser, Page } from "puppeteer-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readFixture } from "../fixtures.js";
import { browserMissing, openBrowser } from "../support/browser.js";
import { blocks, text } from "../support/markdown.js";
import { type Server, serve } from "../support/server.js";

const absent = browserMissing();

/** What a page of ours would have besides docs/library.md's function: the verifier, on files that it is given. */
const VERIFY = `
import { openVerification, verify } from "osnet-convert";
export async function hold(candidate, reference) {
  const { passed, layers, gates } = await verify(await openVerification(candidate, reference));
  return { passed, layers: layers.length, gates: gates.length };
}`;

/** A module that imports the package by its name, bundled for browsers as its users would; files by their paths. */
async function bundle(source: string): Promise<ReadonlyMap<string, string | Uint8Array>> {
  const { build } = await import("vite");
  const root = fileURLToPath(new URL("../..", import.meta.url));
  // Inside the package, so that it is found by its own name.
  const folder = `${root}demo/bundle-${process.pid}`;
  mkdirSync(folder);
  try {
    writeFileSync(`${folder}/page.js`, source);
    const built = await build({
      root,
      base: "/",
      configFile: false,
      logLevel: "silent",
      build: {
        write: false,
        rolldownOptions: {
          input: `${folder}/page.js`,
          preserveEntrySignatures: "strict",
          output: { entryFileNames: "page.js", minify: true },
        },
      },
    });
    const outputs = [built].flat().flatMap((one) => ("output" in one ? one.output : []));
    return new Map(outputs.map((file) => [file.fileName, file.type === "chunk" ? file.code : file.source]));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe.skipIf(absent)(`the library in a browser ${absent || ""}`, () => {
  let browser: Browser;
  let server: Server;
  let page: Page;
  beforeAll(async () => {
    const [convert = "", ...others] = blocks("docs/library.md", "js");
    expect(others).toEqual([]);
    server = await serve();
    for (const [path, content] of await bundle(
      `${convert.replaceAll("webgl", "cpu")}\nexport { tf };\n${VERIFY}`,
    ))
      server.files.set(path, content);
    for (const name of ["osnet_x0_25.pth", "osnet_x0_25.64x32.npz"])
      server.files.set(name, readFixture(name));
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
        window.hold = async (...names) =>
          library.hold(...await Promise.all(names.map(async (name) => ({ name, bytes: await bytesOf(name) }))));
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

  it("converts a checkpoint for tfjs", async () => {
    expect(await page.evaluate(`convert("osnet_x0_25.pth")`)).toEqual({
      variant: "osnet_x0_25",
      shape: [1, 512],
      isFinite: true,
    });
  });

  it("refuses what is none in one sentence", async () => {
    expect(await page.evaluate(`convert("photo.pth", new Uint8Array([137, 80, 78, 71]))`)).toEqual({
      refusal: expect.stringMatching(/^photo\.pth: found .*, expected a PyTorch checkpoint; .*\.$/),
    });
  });

  it("holds a checkpoint against PyTorch's activations", async () => {
    const held = await page.evaluate(`hold("osnet_x0_25.pth", "osnet_x0_25.64x32.npz")`);
    expect(held).toEqual({ passed: true, layers: 445, gates: 24 });
  });
});
