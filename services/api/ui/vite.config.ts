import { defineConfig } from "vite";

// Addresses are relative, so that the dashboard works below any prefix of a proxy. Nothing is inlined: the page's
// policy allows no script and no style that is not a file of its own.
export default defineConfig({
  base: "./",
  publicDir: false,
  build: {
    outDir: "built",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2022",
    sourcemap: false,
    reportCompressedSize: false,
  },
});
