#!/usr/bin/env node
import { main } from "../src/cli/osnet-convert.js";
import { start } from "../src/cli/start.js";

await start(main);
