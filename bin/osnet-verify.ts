#!/usr/bin/env node
import { main } from "../src/cli/osnet-verify.js";

// A closed pipe (`| head`) is no error.
process.stdout.on("error", () => process.exit());
process.exitCode = await main(process.argv.slice(2), process);
