/**
 * Keeps the page's own files in the browser, so that the page opens and works without a network after one visit. It loads nothing else, and
 * stores nothing of the user's. A classic script: it imports nothing.
 */

/** What is used of a service worker's interfaces, whose types are not those of a window. */
interface ExtendableEvent extends Event {
  waitUntil(done: Promise<unknown>): void;
}
interface FetchEvent extends ExtendableEvent {
  readonly request: Request;
  respondWith(response: Promise<Response>): void;
}
interface ServiceWorkerScope {
  readonly registration: { readonly scope: string };
  readonly clients: { claim(): Promise<void> };
  addEventListener(kind: "install" | "activate", listener: (event: ExtendableEvent) => void): void;
  addEventListener(kind: "fetch", listener: (event: FetchEvent) => void): void;
}

/** Every file of the folder with its digest, written here by the build (vite.config.ts). */
declare const __FILES__: readonly (readonly [path: string, sha256: string])[];
/** Of all these digests: one to a version of the page. */
declare const __FILES_DIGEST__: string;

const scope = self as unknown as ServiceWorkerScope;
const INDEX = "index.html";

/** Caches are the origin's, which other folders share: this folder's begin with its address. */
const OWN = `${scope.registration.scope}#`;
const CACHE = OWN + __FILES_DIGEST__;

const urlOf = (path: string): string => new URL(path, scope.registration.scope).href;
const FILES = new Map(__FILES__.map(([path, sha256]) => [urlOf(path), sha256]));

/** Large, and of no use where the browser has no WebGPU. */
const isUseless = (url: string): boolean => /asyncify|webgpu/.test(url) && !("gpu" in navigator);

scope.addEventListener("install", (event) => event.waitUntil(store()));
scope.addEventListener("activate", (event) => event.waitUntil(takeOver()));
scope.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = addressOf(request);
  if (request.method === "GET" && FILES.has(url)) event.respondWith(answer(url, request));
});

/** One file after another, so that whatever the page itself loads goes first. A version is there as a whole or not at all. */
async function store(): Promise<void> {
  const cache = await caches.open(CACHE);
  for (const [url, sha256] of FILES) {
    if (isUseless(url) || (await cache.match(url))) continue;
    await cache.put(url, (await kept(url)) ?? (await download(url, sha256)));
  }
}

/** A file of an earlier version, which is the same where its name has its digest. */
async function kept(url: string): Promise<Response | undefined> {
  if (url === urlOf(INDEX)) return undefined;
  for (const name of await ownCaches()) {
    const response = await (await caches.open(name)).match(url);
    if (response) return response;
  }
  return undefined;
}

/** Rejects if the server's file is not the one that was built. */
async function download(url: string, sha256: string): Promise<Response> {
  const cache = url === urlOf(INDEX) ? "no-cache" : "default";
  const response = await fetch(url, { integrity: `sha256-${sha256}`, cache, priority: "low" });
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  // Some servers lead index.html to its folder; browsers refuse to open a page with an answer that was led elsewhere.
  const { body, headers } = response;
  return response.redirected ? new Response(body, { headers }) : response;
}

async function takeOver(): Promise<void> {
  for (const name of await ownCaches()) if (name !== CACHE) await caches.delete(name);
  await scope.clients.claim();
}

async function ownCaches(): Promise<readonly string[]> {
  return (await caches.keys()).filter((name) => name.startsWith(OWN));
}

/** The folder's own address is its index.html; what follows a `?` or `#` makes no other file. */
function addressOf({ url }: Request): string {
  const { origin, pathname } = new URL(url);
  return origin + pathname === scope.registration.scope ? urlOf(INDEX) : origin + pathname;
}

async function answer(url: string, request: Request): Promise<Response> {
  const cache = await caches.open(CACHE);
  return (await cache.match(url)) ?? fetch(request);
}
