#!/usr/bin/env node
import { start } from "../src/cli/start.js";

await start("osnet-convert", () => import("../src/cli/commands/osnet-convert.js"));
