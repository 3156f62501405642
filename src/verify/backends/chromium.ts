import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, dirname, join } from "node:path";
import type { Browser, Page } from "puppeteer-core";
import type { TfjsFiles } from "../../convert/formats/tfjs/model.js";
import { bytesOf } from "../../core/bytes.js";
import { firstLine, InputError } from "../../core/errors.js";
import type { Tensor } from "../../core/tensor.js";
import type { RuntimeFacts, RuntimeName } from "./backend.js";
import { type Loopback, type Receiver, serveLoopback } from "./loopback.js";
import {
  type Chromium,
  type ChromiumOptions,
  elementsOf,
  type OnnxruntimeModule,
  type OnnxruntimeTensor,
  type RemoteFiles,
  type RemoteTensor,
  type TfjsValue,
} from "./runtime-api.js";

/** The names of the executable by Debian, Google and Microsoft. */
const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge"];

/** The locations of installers on other systems. */
const PLACES = [
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
  "/Applications/Chromium.app/Contents/MacOS/Chromium",
  "C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe",
  "C:\\Program Files (x86)\\Google\\Chrome\\Application\\chrome.exe",
  "C:\\Program Files (x86)\\Microsoft\\Edge\\Application\\msedge.exe",
];

/** The executable of a Chromium: `CHROME_PATH`, or one under a usual name. */
export function findChromium(env: NodeJS.ProcessEnv = process.env): string | undefined {
  if (env.CHROME_PATH) return existsSync(env.CHROME_PATH) ? env.CHROME_PATH : undefined;
  const folders = (env.PATH ?? "").split(delimiter).filter((folder) => folder !== "");
  const named = NAMES.flatMap((name) => folders.map((folder) => join(folder, name)));
  return [...named, ...PLACES].find((path) => existsSync(path));
}

/**
 * Enables WebGPU even if it is not on by default, untested drivers, and the driver's name, and allows connections to
 * this process only. Without a sandbox for root only, with which it does not start: the page is this package's.
 */
const FLAGS = [
  "--enable-unsafe-webgpu",
  "--enable-webgpu-developer-features",
  "--enable-features=Vulkan",
  "--ignore-gpu-blocklist",
  "--enable-unsafe-swiftshader",
  "--disable-dev-shm-usage",
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];

/** Longer than anything takes, however busy the machine is. */
const PATIENCE = 30 * 60_000;

/**
 * Starts a Chromium with a runtime in a page. It ends with this process in any case, because it is controlled through a
 * pipe, and exits when that is closed.
 *
 * @param name of a row that runs in browsers, without `chromium:`
 * @throws InputError (`argument`) if puppeteer-core, Chromium, a package or a required GPU is missing
 */
export async function startChromium(name: RuntimeName, options: ChromiumOptions): Promise<Chromium> {
  const executablePath = findChromium();
  if (executablePath === undefined)
    throw absent(
      "Chromium",
      "install it (Debian: apt-get install chromium), or set CHROME_PATH to its executable",
    );
  const { default: puppeteer } = await import("puppeteer-core").catch((cause: unknown) => {
    throw absent("puppeteer-core", "npm install puppeteer-core", cause);
  });
  const server = await serveLoopback(foldersOf(options.packages));
  let browser: Browser | undefined;
  try {
    browser = await puppeteer.launch({
      executablePath,
      args: [
        ...FLAGS,
        ...(process.getuid?.() === 0 ? ["--no-sandbox"] : []),
        ...(process.env.CHROME_FLAGS ?? "").split(" ").filter((flag) => flag !== ""),
      ],
      pipe: true,
      timeout: PATIENCE,
      // No call times out because the machine is busy: it ends with an answer, or with the page.
      protocolTimeout: 0,
      handleSIGINT: false,
      handleSIGTERM: false,
      handleSIGHUP: false,
    });
    return await openPage(name, browser, server, options);
  } catch (cause) {
    await browser?.close().catch(() => undefined);
    server.close();
    if (cause instanceof InputError) throw cause;
    throw new InputError(
      {
        code: "argument",
        subject: `chromium:${name}`,
        found: `${executablePath} failed to start (${firstLine(cause)})`,
        remedy: "set CHROME_PATH to another browser, or CHROME_FLAGS to the flags it needs",
      },
      { cause },
    );
  }
}

async function openPage(
  name: RuntimeName,
  browser: Browser,
  server: Loopback,
  { engine, needsGpu }: ChromiumOptions,
): Promise<Chromium> {
  const page = await browser.newPage();
  const ended = endOf(name, browser, page);
  /** Calls a function of chromium-page.ts. */
  async function call<T>(what: string, ...args: readonly unknown[]): Promise<T> {
    const source = `page.${what}(${args.map((arg) => JSON.stringify(arg)).join(", ")})`;
    return (await Promise.race([patiently(page.evaluate(source)), ended])) as T;
  }
  const index = server.publish(pageOf(name, engine, server.origin), "text/html; charset=utf-8");
  // tfjs reads its flags from there.
  const flags = process.env.TFJS_FLAGS ? `?tfjsflags=${encodeURIComponent(process.env.TFJS_FLAGS)}` : "";
  await page.goto(`${server.origin}${index}${flags}`, { timeout: PATIENCE });
  await Promise.race([page.waitForFunction("window.page || window.failed", { timeout: PATIENCE }), ended]);
  const failed = await page.evaluate("window.failed");
  if (failed) throw new Error(String(failed));
  const wasm = `${server.origin}packages/onnxruntime-web/`;
  const found = await call<RuntimeFacts>("start", name, wasm, needsGpu);
  const facts: RuntimeFacts = { browser: await browser.version(), ...found };
  if (needsGpu && facts.gpu === undefined)
    throw new InputError({
      code: "argument",
      subject: `chromium:${name}`,
      found: "no GPU is available",
      remedy:
        'run it on a machine with one, or use the processor: CHROME_FLAGS="--use-angle=swiftshader --use-webgpu-adapter=swiftshader"',
    });
  let count = 0;

  const publish = ({ dtype, shape, data }: Tensor<"float32">): RemoteTensor => ({
    type: dtype,
    dims: shape,
    path: server.publish(bytesOf(data)),
  });

  function publishFiles({ json, shards }: TfjsFiles): RemoteFiles {
    return {
      json: server.publish(json),
      shards: [...shards].map(([name, bytes]) => [name, server.publish(bytes)] as const),
    };
  }

  function withdraw(files: RemoteFiles, images: RemoteTensor): void {
    for (const path of [files.json, images.path, ...files.shards.map(([, path]) => path)])
      server.withdraw(path);
  }

  const onnxruntime: OnnxruntimeModule = {
    Tensor: class {
      constructor(
        readonly type: string,
        readonly data: OnnxruntimeTensor["data"],
        readonly dims: readonly number[],
      ) {}
    },
    InferenceSession: {
      async create(file, options) {
        if (typeof file === "string") throw new Error("a page is given bytes");
        const id = count++;
        const path = server.publish(file);
        const externalData = options.externalData?.map(({ path, data }) => ({
          path,
          data: server.publish(data),
        }));
        await call("createSession", id, path, { ...options, ...(externalData ? { externalData } : {}) });
        for (const sent of [path, ...(externalData ?? []).map(({ data }) => data)]) server.withdraw(sent);
        return {
          async run(feeds, names) {
            const remote = Object.entries(feeds).map(([name, { type, dims, data }]) => {
              const path = server.publish(bytesOf(data as unknown as ArrayBufferView));
              return [name, { type, dims, path }] as const;
            });
            const values: [string, OnnxruntimeTensor][] = [];
            for await (const [header, bytes] of received(server, names.length, (to) =>
              call("runSession", id, Object.fromEntries(remote), names, to),
            ))
              values.push([
                header.name,
                { type: header.type, dims: header.dims, data: elementsOf(header.type, bytes.buffer) },
              ]);
            for (const [, { path }] of remote) server.withdraw(path);
            return Object.fromEntries(values);
          },
          release: () => call("releaseSession", id),
        };
      },
    },
    facts: () => facts,
  };
  return {
    facts,
    onnxruntime,
    async *runTfjs({ files, input }, images, segments) {
      const [remote, given] = [publishFiles(files), publish(images)];
      const total = segments.reduce((sum, { values }) => sum + values.length, 0);
      try {
        for await (const [{ dims }, bytes] of received(server, total, (to) =>
          call("runModel", remote, input, given, segments, to),
        ))
          yield { shape: dims, data: new Float32Array(bytes.buffer) };
      } finally {
        withdraw(remote, given);
      }
    },
    async predictTfjs(files, images) {
      const [remote, given] = [publishFiles(files), publish(images)];
      const values: TfjsValue[] = [];
      try {
        for await (const [{ dims }, bytes] of received(server, Infinity, (to) =>
          call("predict", remote, given, to),
        ))
          values.push({ shape: dims, data: new Float32Array(bytes.buffer) });
      } finally {
        withdraw(remote, given);
      }
      return values;
    },
    async close() {
      await browser.close().catch(() => undefined);
      server.close();
    },
  };
}

/** The header of a value. */
interface Header {
  readonly name: string;
  readonly type: string;
  readonly dims: readonly number[];
}

/** The values that a call sends, as they arrive; or the call's own failure. */
async function* received(
  server: Loopback,
  count: number,
  call: (to: string) => Promise<unknown>,
): AsyncGenerator<readonly [header: Header, bytes: Uint8Array<ArrayBuffer>]> {
  const receiver: Receiver = server.receive();
  const done = call(receiver.path).then(
    () => undefined,
    (cause: unknown) => ({ cause }),
  );
  try {
    for (let index = 0; index < count; index++) {
      const next = await patiently(Promise.race([receiver.next(), done]));
      if (next === undefined) break;
      if ("cause" in next) throw next.cause;
      yield [JSON.parse(decodeURIComponent(next.header)) as Header, next.bytes];
    }
  } finally {
    receiver.close();
    await done;
  }
  const failed = await done;
  if (failed) throw failed.cause;
}

/** An answer from the page. A call that hangs, as in a graphics driver, is given up. */
async function patiently<T>(answer: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer for ${PATIENCE / 60_000} minutes`)), PATIENCE);
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Rejects when the page or its browser exits unexpectedly. */
function endOf(name: RuntimeName, browser: Browser, page: Page): Promise<never> {
  const ended = new Promise<never>((_, reject) => {
    const fail = (found: string) => (): void =>
      reject(
        new InputError({
          code: "unsupported",
          subject: `chromium:${name}`,
          found,
          remedy: "run it again with fewer images or more memory, or use another backend",
        }),
      );
    browser.once("disconnected", fail("the browser exited unexpectedly"));
    page.once("error", fail("the page crashed"));
    page.once("close", fail("the page was closed"));
  });
  // A rejection between two calls is reported by the next one.
  ended.catch(() => undefined);
  return ended;
}

const TFJS = "@tensorflow/";

/**
 * The places of the package's own modules and those of its dependencies: each folder that has a main file.
 */
function foldersOf(packages: readonly string[]): ReadonlyMap<string, string> {
  const { resolve } = createRequire(import.meta.url);
  return new Map(
    ["osnet-convert", ...packages].map((name) => {
      try {
        return [`packages/${name}/`, dirname(resolve(name))] as const;
      } catch (cause) {
        throw absent(name, name === "osnet-convert" ? "npm run build" : `npm install ${name}`, cause);
      }
    }),
  );
}

/**
 * A page with the library and a runtime. tfjs's builds for pages share one global object, to which imports of its
 * packages are mapped; imports of onnxruntime are mapped to its modules.
 */
function pageOf(name: RuntimeName, engine: string, base: string): string {
  const own = `${base}packages/osnet-convert/verify/backends/`;
  const scripts = name.startsWith("tfjs")
    ? ["core", "converter", "layers", ...new Set(["backend-cpu", `backend-${engine}`])]
    : [];
  const imports = {
    [`${own}node-packages.js`]: `${own}browser-packages.js`,
    [`onnxruntime-web/${engine}`]: `${base}packages/onnxruntime-web/ort.${engine}.min.mjs`,
  };
  return `<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><base href="${base}">
${scripts.map((part) => `<script src="packages/${TFJS}tfjs-${part}/tf-${part}.min.js"></script>`).join("\n")}
<script>
  const imports = ${JSON.stringify(imports)};
  if (window.tf) {
    if (tf.wasm) tf.wasm.setWasmPaths(${JSON.stringify(`${base}packages/${TFJS}tfjs-backend-wasm/`)});
    const names = Object.keys(tf).filter((name) => /^[A-Za-z_$][\\w$]*$/.test(name));
    const text = names.map((name, i) => \`const v\${i} = tf.\${name};\\nexport { v\${i} as \${name} };\`).join("\\n");
    const url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
    for (const part of ["core", "converter", "layers", "backend-cpu", "backend-wasm"]) imports["${TFJS}tfjs-" + part] = url;
  }
  const map = document.createElement("script");
  map.type = "importmap";
  map.textContent = JSON.stringify({ imports });
  document.currentScript.after(map);
</script>
<script type="module">
  import("${own}chromium-page.js").then((page) => { window.page = page; }, (error) => { window.failed = String(error); });
</script>`;
}

function absent(what: string, remedy: string, cause?: unknown): InputError {
  return new InputError(
    {
      code: "argument",
      subject: what,
      found: "is not installed, and is needed to run a model in a browser",
      remedy,
    },
    { cause },
  );
}
