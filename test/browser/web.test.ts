import { readFileSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { unzipSync } from "fflate";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { lowerToTfjs } from "../../src/convert/export/tfjs-graph-model.js";
import { encodeTfjs } from "../../src/convert/formats/tfjs/codec.js";
import { openCheckpoint } from "../../src/convert/open/checkpoint.js";
import type { Tensor } from "../../src/core/tensor.js";
import { decodePhoto, photoTensor } from "../../src/verify/inputs/photos.js";
import { normalizeRows } from "../../src/verify/outcome/metrics.js";
import { evaluate } from "../../src/verify/reference/evaluate.js";
import { run } from "../cli/command.js";
import { ALL, FAMILIES, fixturePath } from "../fixtures.js";
import { TINY_FAMILIES, tinyCheckpoint } from "../mutation/families.js";
import { browserMissing } from "../support/browser.js";
import { createFolder, type Folder, temporaryFolder } from "../support/folder.js";
import { text } from "../support/markdown.js";
import { convert, openFixture, rewriteOnnx, SMALL, withTensor, withValues } from "../support/osnet.js";
import { seriousFindings } from "../support/pages.js";
import { pictureSet } from "../support/picture-set.js";
import { type Server, serve } from "../support/server.js";
import { tinyFile } from "../support/tiny-file.js";
import { type OpenedPage, startWebPage, type WebPage } from "../support/web-page.js";

const absent = browserMissing();

describe.skipIf(absent)(`the page ${absent || ""}`, () => {
  let web: WebPage;
  let folder: Folder;
  beforeAll(async () => {
    web = await startWebPage();
    folder = await createFolder();
  });
  afterAll(async () => {
    await web?.close();
    await folder?.remove();
  });

  const WRONG = "conv3.0.gate[1, 2].fc2";

  /** A real network, for what must take a while or be of a real size. */
  const REAL = fixturePath("osnet_x0_25.pth") ?? "";
  const CHECKPOINT = tinyFile();

  /** A model of the small checkpoint, one of whose gates has another bias: the files of a TensorFlow.js model. */
  async function wrongModel(): Promise<readonly string[]> {
    const { graph, stateDict } = tinyCheckpoint("osnet");
    const wrong = withTensor(stateDict, "conv3.0.gate.fc2.bias", (tensor) => withValues(tensor, { 5: 2.5 }));
    const { json, shards } = encodeTfjs(lowerToTfjs(graph, wrong, { size: SMALL }));
    const files = [["model.json", json] as const, ...shards];
    return files.map(([name, bytes]) => {
      writeFileSync(folder.at(name), bytes);
      return folder.at(name);
    });
  }

  it("is under 320 kB before a runtime is needed, and asks for nothing but its own files", async () => {
    const server = await serverOfPage();
    const context = await web.browser.createBrowserContext();
    const { page, choose, misdeeds } = await web.open({ server, browser: context });
    await choose(REAL);
    expect(await page.$eval(".headline", (element) => element.textContent)).toBe("osnet_x0_25");
    // What is kept for the next time, without a network, is asked for again, and on a busy machine already.
    const times = (paths: readonly string[], path: string): number =>
      paths.filter((other) => other === path).length;
    const { requested, kept } = server;
    const own = requested.filter((path) => times(requested, path) > times(kept, path));
    const loaded = [...new Set([...own, "service-worker.js"])];
    const sizes = loaded.map((path) => gzipSync(web.server.files.get(path) ?? "").length / 1000);
    const total = sizes.reduce((sum, size) => sum + size, 0);
    expect(total).toBeLessThan(320);
    const [, said] = /needed, (\d+) kB compressed/.exec(text("docs/web.md")) ?? [];
    expect(Math.abs(total / Number(said) - 1)).toBeLessThan(0.1);
    const policy = await page.$eval("meta[http-equiv]", (meta) => meta.getAttribute("content") ?? "");
    expect(text("docs/web.md")).toContain(policy);
    expect(loaded.every((path) => web.server.files.has(path))).toBe(true);
    expect(misdeeds).toEqual([]);
    await context.close();
    server.close();
  });

  /** The folder on a server of its own, without the files named. */
  async function serverOfPage(...without: readonly string[]): Promise<Server> {
    const server = await serve();
    for (const [path, bytes] of web.server.files) if (!without.includes(path)) server.files.set(path, bytes);
    return server;
  }

  it("opens, converts and verifies without a network after one visit", async () => {
    const server = await serverOfPage();
    const context = await web.browser.createBrowserContext();
    const { page: first } = await web.open({ server, browser: context });
    await first.waitForFunction("navigator.serviceWorker.controller", { timeout: 120_000 });
    // All of the folder, but what only WebGPU runs on where the browser has none.
    const hasWebgpu = await first.evaluate("'gpu' in navigator");
    const files = [...server.files.keys()].filter((path) => hasWebgpu || !/asyncify|webgpu/.test(path));
    expect([...new Set(server.kept)].sort()).toEqual(files.sort());
    await first.close();
    server.close();
    await expect(fetch(`${server.origin}/index.html`)).rejects.toThrow();

    const { page, choose, press, type, misdeeds } = await web.open({ server, browser: context });
    await choose(CHECKPOINT, ...(await wrongModel()));
    expect(await press("#verify")).toBe(`FAIL 1 fault, at ${WRONG}`);
    await type("#height", "64");
    await type("#width", "32");
    for (const format of ["onnx", "tfjs"]) {
      await page.click(`#to-${format}`);
      expect(await press("#convert")).toMatch(/^PASS/);
    }
    // The folder's own address, and one with a query, are the same page.
    for (const address of ["/", "/index.html?from=a-bookmark"]) {
      await page.goto(server.origin + address);
      await page.waitForSelector("#choose");
    }
    expect(misdeeds).toEqual([]);
    await context.close();
  });

  it("keeps nothing of a version whose files are not those that were built", async () => {
    const server = await serverOfPage();
    const [wasm = ""] = [...server.files.keys()].filter((path) => /wasm-simd-.*\.wasm$/.test(path));
    server.files.set(wasm, new Uint8Array(8));
    const context = await web.browser.createBrowserContext();
    const { page } = await web.open({ server, browser: context });
    const ended = `navigator.serviceWorker.register("service-worker.js").then(({ installing, active }) =>
      new Promise((resolve) => { const worker = installing ?? active; const look = () =>
        ["activated", "redundant"].includes(worker.state) && resolve(worker.state); worker.onstatechange = look; look(); }))`;
    expect(await page.evaluate(ended)).toBe("redundant");
    expect(server.kept).toContain(wasm);
    await context.close();
    server.close();
  });

  it("works with a network where its files cannot be kept", async () => {
    const server = await serverOfPage("service-worker.js");
    const context = await web.browser.createBrowserContext();
    const { page, choose, press, misdeeds } = await web.open({ server, browser: context });
    await choose(CHECKPOINT);
    await page.click("#to-safetensors");
    expect(await press("#convert")).toMatch(/^PASS/);
    expect(misdeeds.filter((text) => !text.includes("404"))).toEqual([]);
    await context.close();
    server.close();
  });

  /** A real network at its default size; of the small ones every format of one, and of the others one in turn. */
  const FORMATS = ["onnx", "tfjs", "safetensors"] as const;
  const CONVERTED: readonly (readonly [
    string,
    string,
    readonly (typeof FORMATS)[number][],
    readonly string[],
  ])[] = [
    ["osnet_x0_25", REAL, ["onnx"], []],
    ...TINY_FAMILIES.map(
      (family, turn) =>
        [
          `small ${family}`,
          tinyFile(family),
          turn === 0 ? FORMATS : FORMATS.slice(turn % FORMATS.length).slice(0, 1),
          ["--size", "64x32"],
        ] as const,
    ),
    ...(ALL ? FAMILIES : []).flatMap((family) => {
      const path = fixturePath(`${family}.pth`);
      return path === undefined ? [] : [[family, path, FORMATS, ["--size", "64x32"]] as const];
    }),
  ];

  it.each(CONVERTED)(
    "%s: converts to the command line's bytes, in three actions",
    async (_, path, formats, size) => {
      const { page, choose, press, type, download, misdeeds } = await web.open();
      const out = await temporaryFolder({ "w.pth": readFileSync(path) });
      await choose(out.at("w.pth"));
      if (size.length > 0) {
        await type("#height", "64");
        await type("#width", "32");
      }
      for (const format of formats) {
        await page.click(`#to-${format}`);
        expect(await press("#convert")).toMatch(/^PASS/);
        const { bytes } = await download(".outcome .primary");
        const { status } = await run(
          "osnet-convert",
          ["w.pth", "-o", `w.${format}`, "--no-verify", ...(format === "safetensors" ? [] : size)],
          { cwd: out.path },
        );
        expect(status).toBe(0);
        const files = format === "tfjs" ? unzipSync(bytes) : { [`w.${format}`]: bytes };
        const names = Object.keys(files);
        expect(names.length).toBe(format === "tfjs" ? 2 : 1);
        for (const name of names)
          expect(Buffer.compare(readFileSync(out.at(name)), files[name] ?? new Uint8Array()), name).toBe(0);
      }
      expect(misdeeds).toEqual([]);
      await page.close();
    },
  );

  it("shows the fault of a model at its layer, and gives the command line's report", async () => {
    const { page, choose, press, download, misdeeds } = await web.open();
    await choose(CHECKPOINT, ...(await wrongModel()));
    expect(await press("#verify")).toBe(`FAIL 1 fault, at ${WRONG}`);
    const faulty = await page.$$eval(".outcome .c.mf title", (titles) =>
      titles.map((title) => title.textContent ?? ""),
    );
    expect(faulty.length).toBeGreaterThan(0);
    for (const title of faulty) expect(title).toMatch(/^conv3\.0\.gate\[\d\]: gate/);
    const { name, bytes } = await download(".outcome a.plain");
    expect(name).toBe("model.json.html");
    expect(Buffer.from(bytes).toString()).toMatch(/^<!doctype html>.*conv3\.0\.gate/s);
    expect(misdeeds).toEqual([]);
    await page.close();
  });

  it("shows another operator at its place, of a model that is dropped in its folder with its checkpoint", async () => {
    const bytes = rewriteOnnx(convert(tinyCheckpoint("osnet")), (model) => {
      const nodes = model.graph.nodes.map((node) =>
        node.outputs.includes("conv2.1.add") ? { ...node, opType: "Sub" } : node,
      );
      return { ...model, graph: { ...model.graph, nodes } };
    });
    const dropped = await temporaryFolder({
      "m.onnx": bytes,
      "README.md": "not a model",
      "w.pth": readFileSync(CHECKPOINT),
    });
    const { page, drop, press, misdeeds } = await web.open();
    await drop(dropped.path);
    expect(await page.$$eval(".file h2", (names) => names.map(({ textContent }) => textContent))).toEqual([
      "m.onnx",
      "w.pth",
    ]);
    expect(await press("#verify")).toMatch(/^FAIL 1 fault, at conv2\.1\.add/);
    const faulty = await page.$$eval(".outcome .c.mf title", (titles) =>
      titles.map(({ textContent }) => textContent),
    );
    expect(faulty).toEqual([expect.stringMatching(/^conv2\.1\.add: .*\nfault/)]);
    expect(misdeeds).toEqual([]);
    await page.close();
  });

  it("says what the library says of a file that it refuses", async () => {
    const { page, choose } = await web.open({ language: "ko" });
    const hostile = Buffer.from(
      "80027d710028580100000061636e740a73797374656d0a580200000069648552752e",
      "hex",
    );
    writeFileSync(folder.at("hostile.pth"), hostile);
    let sentence = "";
    try {
      openCheckpoint(hostile, { subject: "hostile.pth" });
    } catch (error) {
      sentence = (error as Error).message;
    }
    expect(sentence).toMatch(/^hostile\.pth: found /);
    await choose(folder.at("hostile.pth"));
    expect(
      await page.$eval(".problem p", (element) => [element.textContent, element.getAttribute("lang")]),
    ).toEqual([sentence, "en"]);
    await page.close();
  });

  it("refuses what a form should not have, by the library's sentence", async () => {
    const { page, choose, press, type } = await web.open();
    await choose(CHECKPOINT);
    await type("#height", "0");
    expect(await press("#convert")).toBe("This file cannot be used");
    expect(await page.$eval(".outcome .problem", (element) => element.textContent)).toBe(
      "image height: found 0, expected a positive whole number; correct the value.",
    );
    await page.close();
  });

  it("ends a run at once when it is cancelled, and goes on to the next; by the keyboard alone", async () => {
    const { page, choose, misdeeds } = await web.open();
    await choose(REAL);
    await page.focus("#to-onnx");
    await page.keyboard.press("ArrowDown");
    await page.waitForSelector("#to-tfjs:checked");
    await page.focus("#convert");
    await page.keyboard.press("Enter");
    await page.waitForSelector("#bar[value]", { timeout: 120_000 });
    // The way out is where the focus is.
    await page.keyboard.press("Enter");
    await page.waitForSelector(".outcome");
    expect(await page.$eval(".outcome h2", (heading) => heading.textContent)).toBe(
      "Cancelled. Nothing was saved.",
    );
    expect(await page.$(".outcome .primary")).toBeNull();
    await page.focus("#convert");
    await page.keyboard.press("Enter");
    await page.waitForSelector(".pill.pass", { timeout: 120_000 });
    expect(await page.evaluate("document.activeElement.textContent")).toMatch(/^PASS/);
    expect(await page.$eval("#live", (region) => region.textContent)).toMatch(/^PASS/);
    expect(misdeeds).toEqual([]);
    await page.close();
  });

  it.each(["en", "ko"] as const)(
    "%s: has no serious findings of axe, light or dark, and no scrolling sideways at 390 px",
    async (language) => {
      const opened = await web.open({ language, width: 390 });
      const { page, choose, press } = opened;
      await expectAccessible(opened);
      await choose(CHECKPOINT, ...(await wrongModel()));
      await page.click("#options summary");
      await expectAccessible(opened);
      expect(await press("#verify")).toContain(WRONG);
      await expectAccessible(opened);
      await page.setViewport({ width: 1280, height: 900 });
      await expectAccessible(opened);
      await page.close();
    },
  );

  async function expectAccessible({ page }: OpenedPage): Promise<void> {
    const overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
    for (const theme of ["light", "dark"]) {
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: theme }]);
      expect(await seriousFindings(page)).toEqual([]);
      expect(await page.evaluate(overflow)).toBe(0);
    }
  }

  it("cannot send anything anywhere, neither from the page nor from its worker", async () => {
    const other = await serve();
    try {
      const { page, choose } = await web.open();
      await choose(CHECKPOINT);
      const attempts = `
        const to = ${JSON.stringify(other.origin)};
        const outcomes = {};
        const settle = async (name, attempt) => { try { outcomes[name] = String(await attempt()); } catch (error) { outcomes[name] = "blocked"; } };
        await settle("fetch", () => fetch(to + "/fetch", { method: "POST", mode: "no-cors", body: "weights" }).then(() => "sent"));
        await settle("request", () => new Promise((resolve, reject) => {
          const request = new XMLHttpRequest(); request.onload = () => resolve("sent"); request.onerror = reject;
          request.open("PUT", to + "/request"); request.send("weights"); }));
        await settle("socket", () => new Promise((resolve, reject) => {
          const socket = new WebSocket(to.replace("http", "ws")); socket.onopen = () => resolve("sent"); socket.onerror = reject; }));
        await settle("script", () => import(to + "/script.js").then(() => "sent"));`;
      const inPage = `(async () => { ${attempts}
        outcomes.beacon = navigator.sendBeacon(to + "/beacon", "weights") ? "queued" : "blocked";
        await settle("image", () => new Promise((resolve, reject) => {
          const image = new Image(); image.onload = () => resolve("sent"); image.onerror = reject; image.src = to + "/image?weights"; }));
        await settle("frame", () => new Promise((resolve) => {
          const frame = document.createElement("iframe"); frame.onload = () => resolve("done"); frame.src = to + "/frame"; document.body.append(frame); }));
        const form = document.createElement("form");
        form.action = to + "/form"; form.method = "post"; form.target = "_blank"; document.body.append(form); form.submit();
        await new Promise((resolve) => setTimeout(resolve, 500));
        return outcomes; })()`;
      expect(await page.evaluate(inPage)).toMatchObject({
        fetch: "blocked",
        request: "blocked",
        socket: "blocked",
        script: "blocked",
        image: "blocked",
      });
      const [worker] = page.workers();
      expect(worker?.url()).toMatch(/^blob:/);
      const inWorker = await worker?.evaluate(`(async () => { ${attempts} return outcomes; })()`);
      expect(inWorker).toEqual({
        fetch: "blocked",
        request: "blocked",
        socket: "blocked",
        script: "blocked",
      });
      expect(other.requested).toEqual([]);
      await page.close();
    } finally {
      other.close();
    }
  });

  it("computes embeddings of pictures by the original and by the model, and shows their gates", async () => {
    const pictures = await pictureSet({ identities: 1, cameras: 2, format: "png" });
    const files = [...pictures].filter(([path]) => path.startsWith("query/")).slice(0, 2);
    const paths = files.map(([, bytes], index) => {
      writeFileSync(folder.at(`${index}.png`), bytes);
      return folder.at(`${index}.png`);
    });
    const photos = await Promise.all(files.map(([path, bytes]) => decodePhoto(bytes, path)));
    const { graph, stateDict } = openFixture();
    let rows: Tensor = { dtype: "float32", shape: [], data: new Float32Array() };
    for (const { name, tensor } of evaluate(graph, stateDict, photoTensor(photos, 256, 128)))
      if (name === graph.outputs.features) rows = normalizeRows(tensor);
    const expected = Array.from(
      { length: 512 },
      (_, index) => Number(rows.data[index]) * Number(rows.data[index + 512]),
    );
    const cosine = expected.reduce((sum, product) => sum + product, 0);

    const { page, choose, press, misdeeds } = await web.open({ width: 390 });
    await choose(REAL);
    await page.click("#to-tfjs");
    expect(await press("#convert")).toMatch(/^PASS/);
    const input = await page.$("#pictures");
    await (input as unknown as { uploadFile(...paths: readonly string[]): Promise<void> }).uploadFile(
      ...paths,
    );
    await page.waitForSelector(".shown img");
    // Cancelled in the page as soon as there is progress: the embeddings may be done before the browser has answered. The way out is
    // where the focus is; what was converted stays.
    const step = await page.evaluate(`new Promise((resolve) => {
      const observer = new MutationObserver(() => {
        const step = document.querySelector("#step");
        if (!step || !document.querySelector("#bar[value]")) return;
        observer.disconnect();
        resolve(step.textContent);
        document.activeElement.click();
      });
      observer.observe(document.body, { subtree: true, childList: true, attributes: true });
      document.querySelector("#pictures-run").click();
    })`);
    expect(step).toMatch(/^Computing embeddings: \d+ of \d+ layers$/);
    await page.waitForSelector("#pictures-cancelled");
    expect(await page.$eval("#live", (region) => region.textContent)).toBe("Cancelled. Nothing was saved.");
    expect(await page.$(".outcome .primary")).not.toBeNull();
    await page.click("#pictures-run");
    await page.waitForSelector(".pictures .tiles", { timeout: 120_000 });
    const figures = await page.$$eval(".pictures dd", (elements) =>
      elements.map(({ textContent }) => Number(textContent)),
    );
    // Of the two pictures, by each; of the two models, on each picture.
    const [byOriginal = 0, byModel = 0, ...same] = figures;
    expect(Math.abs(byOriginal - cosine)).toBeLessThan(1e-6);
    expect(Math.abs(byModel - cosine)).toBeLessThan(1e-5);
    expect(same).toEqual([1, 1]);
    expect((await page.$$(".gates canvas")).length).toBe(12);
    expect(await page.evaluate("document.activeElement.textContent")).toBe("Your own pictures");
    expect(misdeeds).toEqual([]);
    await page.close();
  });

  it("keeps no memory from one conversion to the next", async () => {
    const { page, choose, press, type } = await web.open();
    await choose(CHECKPOINT);
    await type("#height", "64");
    await type("#width", "32");
    await page.click("#to-tfjs");
    const used = async (): Promise<number> => {
      const client = await page.createCDPSession();
      await client.send("HeapProfiler.collectGarbage");
      const { JSHeapUsedSize = 0 } = await page.metrics();
      await client.detach();
      return JSHeapUsedSize;
    };
    const sizes: number[] = [];
    for (let round = 0; round < 6; round++) {
      expect(await press("#convert")).toMatch(/^PASS/);
      sizes.push(await used());
      // One that waits for work, and none that has done its own.
      expect(page.workers().length).toBeLessThanOrEqual(1);
    }
    expect(Math.max(...sizes.slice(3)) - Math.max(...sizes.slice(0, 3))).toBeLessThan(3e5);
    await page.close();
  });
});
