/**
 * The page's policy, for its meta tag and for a server's header: nothing may be loaded or sent but the page's own files. Its worker is of
 * a `blob:`, so that it inherits this policy from the page (client.ts); WebAssembly is compiled, JavaScript is never made of text.
 */
export const POLICY: string = [
  "default-src 'none'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "worker-src blob:",
  "connect-src 'self'",
  "img-src blob: data:",
  "style-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
].join("; ");
