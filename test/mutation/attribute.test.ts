import { testSample } from "./sample.js";

testSample("attribute");
