import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";

/** A server for one page, on the loopback interface, at a random port and path. */
export interface Loopback {
  /** Ends in a slash; all paths start with it. */
  readonly origin: string;
  /** Makes bytes available to the page; returns their path. */
  publish(bytes: Uint8Array | string, type?: string): string;
  /** Bytes that the page no longer needs. */
  withdraw(path: string): void;
  /** Receives what the page sends to its own path; each request is answered once the one before has been processed. */
  receive(): Receiver;
  /** Ends it, with all pending requests of the page. */
  close(): void;
}

/** The messages of a page, in order. */
export interface Receiver {
  /** The path that the page sends to. */
  readonly path: string;
  /** The next bytes, with their header. */
  next(): Promise<{ readonly header: string; readonly bytes: Uint8Array<ArrayBuffer> }>;
  /** Accepts no more: later requests of the page are refused. */
  close(): void;
}

/** The header that describes a body. */
const HEADER = "x-value";

const TYPES: Readonly<Record<string, string>> = {
  js: "text/javascript",
  mjs: "text/javascript",
  wasm: "application/wasm",
  html: "text/html; charset=utf-8",
};

/** The page may connect to this server only. */
const POLICY =
  "default-src 'self' 'unsafe-inline' 'unsafe-eval' blob: data:; connect-src 'self' blob: data:; worker-src 'self' blob:";

/** @param folders that the page may read, by the first part of their path */
export async function serveLoopback(folders: ReadonlyMap<string, string>): Promise<Loopback> {
  // Other programs on this machine can connect to the port, but cannot guess the path.
  const secret = `/${randomBytes(16).toString("hex")}/`;
  const published = new Map<string, { readonly bytes: Uint8Array | string; readonly type: string }>();
  const receivers = new Map<string, (request: IncomingMessage, response: ServerResponse) => void>();
  let count = 0;

  const server = createServer((request, response) => {
    answer(request, response).catch(() => response.writeHead(500).end());
  });

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname } = new URL(request.url ?? "/", "http://loopback");
    if (!pathname.startsWith(secret)) return void response.writeHead(404).end();
    const path = pathname.slice(secret.length);
    if (request.method === "PUT") {
      const take = receivers.get(path);
      if (take) return take(request, response);
      request.resume();
      return void response.writeHead(410).end();
    }
    const { bytes, type } = published.get(path) ?? (await fromFolder(folders, path)) ?? {};
    if (bytes === undefined) return void response.writeHead(404).end();
    response
      .writeHead(200, {
        "content-type": type,
        "content-security-policy": POLICY,
        "cache-control": "no-store",
      })
      .end(bytes);
  }

  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}${secret}`,
    publish(bytes, type = "application/octet-stream") {
      const path = `data/${count++}`;
      published.set(path, { bytes, type });
      return path;
    },
    withdraw: (path) => void published.delete(path),
    receive() {
      const path = `sent/${count++}`;
      const queue = receiver(path);
      receivers.set(path, queue.take);
      return {
        path,
        next: queue.next,
        close() {
          receivers.delete(path);
          queue.close();
        },
      };
    },
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

interface Queue extends Pick<Receiver, "next" | "close"> {
  take(request: IncomingMessage, response: ServerResponse): void;
}

/** A body is read on demand: until then the page waits for its answer, and sends nothing more. */
function receiver(path: string): Queue {
  const waiting: [IncomingMessage, ServerResponse][] = [];
  let asked: (() => void) | undefined;
  return {
    take(request, response) {
      waiting.push([request, response]);
      asked?.();
    },
    async next() {
      while (waiting.length === 0)
        await new Promise<void>((resolve) => {
          asked = resolve;
        });
      const [request, response] = waiting.shift() as [IncomingMessage, ServerResponse];
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      response.writeHead(204).end();
      // In its own buffer, so that it is aligned for any typed array.
      const all = Buffer.concat(chunks);
      const bytes = new Uint8Array(all.length);
      bytes.set(all);
      return { header: String(request.headers[HEADER] ?? path), bytes };
    },
    close() {
      for (const [request, response] of waiting.splice(0)) {
        request.resume();
        response.writeHead(410).end();
      }
    },
  };
}

async function fromFolder(
  folders: ReadonlyMap<string, string>,
  path: string,
): Promise<{ readonly bytes: Uint8Array; readonly type: string } | undefined> {
  const [prefix, folder] = [...folders].find(([prefix]) => path.startsWith(prefix)) ?? [];
  const inner = path.slice(prefix?.length);
  if (folder === undefined || !/^[\w./-]+$/.test(inner) || inner.includes("..")) return undefined;
  const type = TYPES[inner.split(".").at(-1) ?? ""];
  if (type === undefined) return undefined;
  try {
    return { bytes: await readFile(join(folder, inner)), type };
  } catch {
    return undefined;
  }
}
