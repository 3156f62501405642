import type { Browser } from "puppeteer-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { lowerToTfjs } from "../../src/convert/export/tfjs-graph-model.js";
import { encodeTfjs } from "../../src/convert/formats/tfjs/codec.js";
import { permute } from "../../src/core/tensor.js";
import { photographed, pixelsOf, seededImages } from "../../src/verify/inputs/images.js";
import { normalizeRows } from "../../src/verify/outcome/metrics.js";
import { evaluate } from "../../src/verify/reference/evaluate.js";
import { browserMissing, openBrowser } from "../support/browser.js";
import { blocks } from "../support/markdown.js";
import { openFixture } from "../support/osnet.js";
import { encodePng } from "../support/png.js";
import { type Server, serve } from "../support/server.js";

const absent = browserMissing();

describe.skipIf(absent)(`the page in docs/library.md ${absent || ""}`, () => {
  let browser: Browser;
  let server: Server;
  beforeAll(async () => {
    server = await serve();
    browser = await openBrowser({ graphics: true });
  });
  afterAll(async () => {
    await browser?.close();
    server?.close();
  });

  it("gives the embedding of a photo", async () => {
    const [html = "", ...others] = blocks("docs/library.md", "html");
    expect(others).toEqual([]);
    const { graph, stateDict } = openFixture();
    const images = photographed(seededImages(5, 1, 256, 128));
    const pixels = permute(pixelsOf(images, "rgb"), [0, 2, 3, 1]);
    const { json, shards } = encodeTfjs(lowerToTfjs(graph, stateDict, { preprocess: "rgb" }));
    server.files.set("index.html", html);
    server.files.set("person.png", encodePng(128, 256, Uint8Array.from(pixels.data)));
    server.files.set("osnet.tfjs/model.json", json);
    for (const [name, bytes] of shards) server.files.set(`osnet.tfjs/${name}`, bytes);

    const page = await browser.newPage();
    await page.goto(`${server.origin}/index.html`);
    await page.waitForSelector("output:not(:empty)");
    const text = (await page.evaluate('document.querySelector("output").textContent')) as string;
    const embedding = text.split(" ").map(Number);
    let expected = new Float64Array();
    for (const { name, tensor } of evaluate(graph, stateDict, images))
      if (name === graph.outputs.features) expected = Float64Array.from(normalizeRows(tensor).data);
    expect(embedding).toHaveLength(512);
    const errors = embedding.map((value, index) => Math.abs(value - (expected[index] ?? Number.NaN)));
    expect(Math.max(...errors)).toBeLessThan(2e-6);
  });
});
