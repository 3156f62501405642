import { testSample } from "./sample.js";

testSample("osnet");
