/**
 * Has the page's files kept in the browser (service-worker.ts), once all that the page needs itself is there: the runtimes are 45 MB. Where that cannot be,
 * the page works as ever, with a network: opened from a file or without https, in a private window, or for who saves data.
 */
export function workOffline(): void {
  const { connection } = navigator as { readonly connection?: { readonly saveData?: boolean } };
  if (!("serviceWorker" in navigator) || connection?.saveData) return;
  const register = (): void => {
    navigator.serviceWorker.register("service-worker.js").catch(() => undefined);
  };
  if (document.readyState === "complete") register();
  else addEventListener("load", register);
}
