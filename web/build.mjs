// Builds the page into runtime/page/, from where it becomes part of the binary. With --check it only compares.
import { readFile, writeFile } from "node:fs/promises";
import { build } from "esbuild";

const here = (path) => new URL(path, import.meta.url);
const { outputFiles } = await build({
  entryPoints: { app: here("src/main.tsx").pathname },
  outdir: here("../runtime/page").pathname,
  absWorkingDir: here(".").pathname,
  bundle: true,
  minify: true,
  write: false,
  format: "esm",
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  alias: { "@hongyan/client": here("../clients/typescript/src/index.ts").pathname },
  legalComments: "eof",
  logLevel: "warning",
});
const files = outputFiles.map(({ path, contents }) => [path, contents]);
for (const name of ["index.html", "icon.svg"]) {
  files.push([here(`../runtime/page/${name}`).pathname, await readFile(here(`src/${name}`))]);
}
for (const [path, contents] of files) {
  if (!process.argv.includes("--check")) {
    await writeFile(path, contents);
  } else if (!Buffer.from(contents).equals(await readFile(path).catch(() => Buffer.of()))) {
    console.error(`${path} is not what its source makes`);
    process.exitCode = 1;
  }
}
