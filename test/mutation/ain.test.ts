import { testSample } from "./sample.js";

testSample("ain");
