import { defineConfig } from "vite";

// The bundle is committed and compared by CI: no time, no path and no source map in it.
export default defineConfig({
    base: "./",
    server: { proxy: { "/api": "http://127.0.0.1:8080", "/published": "http://127.0.0.1:8080", "/openapi.json": "http://127.0.0.1:8080" } },
    build: {
        outDir: "../static",
        emptyOutDir: true,
        target: "es2022",
        modulePreload: { polyfill: false },
        assetsInlineLimit: 0,
        reportCompressedSize: false,
    },
});
