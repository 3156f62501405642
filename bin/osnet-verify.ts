#!/usr/bin/env node
import { start } from "../src/cli/start.js";

await start("osnet-verify", () => import("../src/cli/osnet-verify.js"));
