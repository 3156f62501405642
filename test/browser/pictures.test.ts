import type { Browser, Page } from "puppeteer-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { lowerToTfjs } from "../../src/convert/export/tfjs-graph-model.js";
import { encodeTfjs } from "../../src/convert/formats/tfjs/codec.js";
import { openEmbedder } from "../../src/verify/candidate/embedder.js";
import { decodePhoto, photoTensor } from "../../src/verify/inputs/photos.js";
import { browserMissing, openBrowser } from "../support/browser.js";
import { bundle } from "../support/bundle.js";
import { jpegCases } from "../support/jpeg.js";
import { blocks } from "../support/markdown.js";
import { openFixture } from "../support/osnet.js";
import { pictureSet } from "../support/picture-set.js";
import { type Server, serve } from "../support/server.js";

const absent = browserMissing();

/** What the page has besides docs/library.md's function. */
const PAGE = `
import { setWasmPaths } from "@tensorflow/tfjs-backend-wasm";
setWasmPaths("node_modules/@tensorflow/tfjs-backend-wasm/dist/");
const bytesOf = async (name) => new Uint8Array(await (await fetch(name)).arrayBuffer());
window.embed = async (names, weights) => {
  const files = await Promise.all(names.map(async (name) => new File([await bytesOf(name)], name)));
  const shards = new Map(await Promise.all(weights.map(async (name) => [name, await bytesOf(name)])));
  const { shape, data } = await embedChosen(files, { name: "osnet.tfjs", bytes: await bytesOf("model.json"), beside: shards });
  return { shape, data: [...data] };
};
window.pixels = async (name) => {
  try {
    const { width, height, data } = await decodePhoto(await bytesOf(name), name);
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
    return { width, height, sha256: [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("") };
  } catch (error) {
    return error.problem ? null : String(error);
  }
};`;

describe.skipIf(absent)(`pictures in a browser ${absent || ""}`, () => {
  let browser: Browser;
  let server: Server;
  let page: Page;
  beforeAll(async () => {
    server = await serve();
    const [, , snippet = "", ...others] = blocks("docs/library.md", "js");
    expect(others).toEqual([]);
    for (const [path, content] of await bundle(`${snippet}\n${PAGE}`, "pictures"))
      server.files.set(path, content);
    server.files.set(
      "index.html",
      `<!doctype html><link rel="icon" href="data:,"><script type="module" src="pictures.js"></script>`,
    );
    browser = await openBrowser();
    page = await browser.newPage();
    await page.goto(`${server.origin}/index.html`);
    await page.waitForFunction("window.pixels !== undefined");
  });
  afterAll(async () => {
    await browser?.close();
    server?.close();
  });

  it("have the pixels that Pillow has of them", async () => {
    for (const { name, file, pixels } of jpegCases()) {
      server.files.set("case.jpg", file);
      expect({ name, pixels: await page.evaluate(`pixels("case.jpg")`) }).toEqual({ name, pixels });
    }
  });

  it("have the embeddings that they have in Node", async () => {
    const { graph, stateDict } = openFixture();
    const { json, shards } = encodeTfjs(lowerToTfjs(graph, stateDict));
    const pictures = [...(await pictureSet())].slice(0, 10);
    for (const [name, bytes] of [["model.json", json] as const, ...shards, ...pictures])
      server.files.set(name, bytes);
    const names = pictures.map(([name]) => name);
    const found = (await page.evaluate(
      `embed(${JSON.stringify(names)}, ${JSON.stringify([...shards.keys()])})`,
    )) as { readonly shape: readonly number[]; readonly data: readonly number[] };
    expect(found.shape).toEqual([10, 512]);
    const { embed, release } = await openEmbedder({ name: "osnet.tfjs", bytes: json, beside: shards });
    const decoded = await Promise.all(pictures.map(([name, bytes]) => decodePhoto(bytes, name)));
    const { data } = await embed(photoTensor(decoded, 256, 128));
    await release();
    const largest = Math.max(...[...data].map(Math.abs));
    const apart = [...data].map((value, index) => Math.abs(value - (found.data[index] ?? Number.NaN)));
    expect(Math.max(...apart) / largest).toBeLessThan(1e-6);
  });
});
