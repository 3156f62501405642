import { readFileSync } from "node:fs";
import type { Browser, Page } from "puppeteer-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { lowerToTfjs } from "../../src/convert/export/tfjs-graph-model.js";
import { lowerToTfjsLayers } from "../../src/convert/export/tfjs-layers-model.js";
import { VALUE_NAMES } from "../../src/convert/export/tfjs-names.js";
import { decodeTfjs, encodeTfjs } from "../../src/convert/formats/tfjs/codec.js";
import type { TfjsFiles } from "../../src/convert/formats/tfjs/model.js";
import { elementCount, permute, type Tensor } from "../../src/core/tensor.js";
import type { Backend } from "../../src/verify/backends/backend.js";
import { tfjsNames } from "../../src/verify/weights/located.js";
import { ALL, FAMILIES, missing, VARIED_FAMILIES } from "../fixtures.js";
import { browserMissing, openBrowser } from "../support/browser.js";
import { tfjsCandidate } from "../support/candidates.js";
import { type Server, serve } from "../support/server.js";
import { expectNearPyTorch, openFamily } from "../verify/pytorch.js";

/**
 * What we write, loaded by tfjs in a real browser over http: every tensor and every gate against PyTorch's own
 * activations, in WebGL (on the processor, in IEEE float32) and in WebAssembly.
 */
const FLOOR = 3e-6;

const ENGINES = ["webgl", "wasm"] as const;
const SIZE = { height: 64, width: 32 } as const;

const absentBrowser = browserMissing();

describe.skipIf(absentBrowser)(`Chromium ${absentBrowser || ""}`, () => {
  let browser: Browser;
  let page: Page;
  let server: Server;
  beforeAll(async () => {
    server = await serve();
    server.files.set("index.html", readFileSync(new URL("page.html", import.meta.url)));
    browser = await openBrowser({ graphics: true });
    page = await browser.newPage();
    await page.goto(`${server.origin}/index.html`);
  });
  afterAll(async () => {
    await browser?.close();
    server?.close();
  });

  /** Puts a model where the page finds it. */
  function publish(folder: string, { json, shards }: TfjsFiles): string {
    server.files.set(`${folder}/model.json`, json);
    for (const [name, bytes] of shards) server.files.set(`${folder}/${name}`, bytes);
    return `${folder}/model.json`;
  }

  /** A model in the page, whose values are read by their names there. */
  function inPage(files: TfjsFiles, format: string, names: ReadonlyMap<string, string>): Backend {
    const url = publish("model", files);
    return {
      name: "tfjs-wasm",
      layers: [...names.keys()],
      async *run(images) {
        const { shape, data } = permute(images, [0, 2, 3, 1]);
        server.files.set("images.bin", new Uint8Array(data.buffer as ArrayBuffer));
        const call = JSON.stringify({ url, format, shape, values: [...names.values()] });
        const shapes = (await page.evaluate(`run(${call})`)) as number[][];
        const bytes = new Uint8Array(server.received.get("values.bin") ?? []);
        let offset = 0;
        for (const [index, name] of [...names.keys()].entries()) {
          const length = elementCount(shapes[index] ?? []);
          const value: Tensor<"float32"> = {
            dtype: "float32",
            shape: shapes[index] ?? [],
            data: new Float32Array(bytes.buffer, offset, length),
          };
          offset += 4 * length;
          yield { name, tensor: value.shape.length === 4 ? permute(value, [0, 3, 1, 2]) : value };
        }
        expect(offset).toBe(bytes.length);
      },
    };
  }

  describe.each(ENGINES)("%s", (engine) => {
    beforeAll(async () => {
      expect(await page.evaluate(`start("${engine}")`)).toEqual({ engine, float32: true, float16: false });
    });

    // In WebGL those that have every kind of layer; WebAssembly computes what it does in Node, on families.test.ts's word.
    const families = ALL ? FAMILIES : engine === "webgl" ? VARIED_FAMILIES : VARIED_FAMILIES.slice(0, 1);
    it.for(families.flatMap((family) => [[family, "graph"] as const, [family, "layers"] as const]))(
      "%s, %s model: no tensor farther from PyTorch than its float32 allows",
      async ([family, format], context) => {
        const absent = missing(`${family}.pth`, `${family}.64x32.npz`, `${family}.64x32.float64.npz`);
        if (absent) return context.skip(absent);
        const recorded = await openFamily(family);
        const { graph, stateDict } = recorded.checkpoint;
        const lower = format === "graph" ? lowerToTfjs : lowerToTfjsLayers;
        const files = encodeTfjs(lower(graph, stateDict, { size: SIZE }));
        const model = decodeTfjs(files, { subject: family });
        const party = { name: family, format: "tfjs" } as const;
        const candidate = tfjsCandidate(files, model, graph, party);
        const tapped = tfjsNames(model, graph, family).tapped(files);
        const names = new Map(
          candidate.backend.layers.map((name) => [name, VALUE_NAMES[model.format].of(name)]),
        );
        const backend = inPage(tapped, model.format, names);
        await expectNearPyTorch({ backend, folded: candidate.folded }, recorded, FLOOR);
      },
    );
  });
});
