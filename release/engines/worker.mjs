// What worker.py does, for snippets in JavaScript: `node worker.mjs JOB` reads JOB/job.json and writes JOB/result.json.
// It is in the environment's folder, where npm's packages are found, and writes the snippet there to import it.
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { env } from "@huggingface/transformers";

const folder = process.argv[2];
const here = path.dirname(process.argv[1]);
env.allowRemoteModels = false;
env.localModelPath = process.cwd();
const job = JSON.parse(fs.readFileSync(path.join(folder, "job.json"), "utf8"));
const file = path.join(here, `snippet-${process.pid}.mjs`);
const code = job.snippet.replace("PAIRS", "globalThis.PAIRS").replaceAll("console.log(", "console.error(");
fs.writeFileSync(file, `${code}\nexport { scores };\n`);
try {
  globalThis.PAIRS = job.pairs;
  const { scores } = await import(pathToFileURL(file));
  const versions = {};
  for (const name of job.versions) {
    const about = path.join(here, "node_modules", name, "package.json");
    versions[name] = JSON.parse(fs.readFileSync(about, "utf8")).version;
  }
  fs.writeFileSync(path.join(folder, "result.json"), JSON.stringify({ scores: [...scores].map(Number), versions }));
} finally {
  fs.rmSync(file);
}
