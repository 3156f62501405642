/**
 * The page's policy, for its meta tag and for a server's header: nothing may be loaded or sent but the page's own files. Its workers are of
 * a `blob:`, so that they inherit this policy from the page (client.ts); its service worker cannot be, and is one of its files. WebAssembly
 * is compiled, JavaScript is never made of text.
 */
export const POLICY: string = [
  "default-src 'none'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "worker-src 'self' blob:",
  "connect-src 'self'",
  "img-src blob: data:",
  "style-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
].join("; ");
