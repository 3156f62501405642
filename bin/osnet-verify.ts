#!/usr/bin/env node
import { start } from "../src/cli/start.js";

await start("osnet-verify", () => import("../src/cli/commands/osnet-verify.js"));
