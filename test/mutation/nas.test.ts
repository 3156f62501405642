import { testSample } from "./sample.js";

testSample("nas");
