import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";

/** A web server on the loopback interface. */
export interface Server {
  readonly origin: string;
  /** What it serves besides the packages under `node_modules`, by path; may change while it runs. */
  readonly files: Map<string, Uint8Array | string>;
  /** What a page has put under a path. */
  readonly received: Map<string, Uint8Array>;
  /** Paths that were asked for, in order. */
  readonly requested: string[];
  /** Those of them that a service worker asked for. */
  readonly kept: string[];
  close(): void;
}

const PACKAGES = new URL("../../node_modules/", import.meta.url);

const TYPES: Readonly<Record<string, string>> = {
  html: "text/html; charset=utf-8",
  js: "text/javascript",
  mjs: "text/javascript",
  css: "text/css",
  json: "application/json",
  wasm: "application/wasm",
  png: "image/png",
};

/** Serves files from memory, and tfjs's own from where npm put them. */
export async function serve(): Promise<Server> {
  const files = new Map<string, Uint8Array | string>();
  const received = new Map<string, Uint8Array>();
  const requested: string[] = [];
  const kept: string[] = [];
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url ?? "/", "http://loopback");
    const path = pathname.slice(1);
    requested.push(path);
    if (request.headers.referer?.endsWith("service-worker.js") || request.headers["service-worker"])
      kept.push(path);
    if (request.method === "PUT") {
      received.set(path, await bodyOf(request));
      response.writeHead(204).end();
      return;
    }
    const bytes = files.get(path) ?? packaged(path);
    const type = TYPES[path.split(".").at(-1) ?? ""] ?? "application/octet-stream";
    if (bytes === undefined) response.writeHead(404).end();
    else response.writeHead(200, { "content-type": type }).end(bytes);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    origin: `http://127.0.0.1:${port}`,
    files,
    received,
    requested,
    kept,
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}

function packaged(path: string): Uint8Array | undefined {
  if (!/^node_modules\/@tensorflow\/[\w/.-]+$/.test(path) || path.includes("..")) return undefined;
  try {
    return readFileSync(fileURLToPath(new URL(path.slice("node_modules/".length), PACKAGES)));
  } catch {
    return undefined;
  }
}

async function bodyOf(request: IncomingMessage): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
