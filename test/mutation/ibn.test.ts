import { testSample } from "./sample.js";

testSample("ibn");
