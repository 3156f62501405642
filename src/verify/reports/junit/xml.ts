import { escapeMarkup } from "../escape.js";

/** Of a test case: what it is called, and what is wrong. */
export interface TestCase {
  readonly name: string;
  readonly className: string;
  readonly outcome?: {
    readonly kind: "failure" | "error" | "skipped";
    readonly type: string;
    readonly text: string;
  };
}

export interface TestSuite {
  readonly name: string;
  readonly cases: readonly TestCase[];
  readonly properties?: readonly (readonly [name: string, value: string])[];
  readonly seconds: number;
  /** Lines of `system-out`. */
  readonly output?: readonly string[];
  /** Lines of `system-err`. */
  readonly errors?: readonly string[];
}

/** Reports are the same for the same result, so that they carry no time of day. */
const NO_TIME = "1970-01-01T00:00:00";

/**
 * A JUnit XML document, valid against both schemas in use, the Ant task's (windyroad/JUnit-Schema) and Jenkins's
 * (xunit-plugin, junit-10.xsd): all of the former's required attributes, and no other.
 */
export function junitDocument(suites: readonly TestSuite[]): string {
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    "<testsuites>",
    ...suites.map(suiteElement),
    "</testsuites>",
    "",
  ].join("\n");
}

function suiteElement(
  { name, cases, properties = [], seconds, output = [], errors = [] }: TestSuite,
  index: number,
): string {
  const count = (kind: string): number => cases.filter(({ outcome }) => outcome?.kind === kind).length;
  const attributes = {
    name,
    package: "osnet-verify",
    id: String(index),
    timestamp: NO_TIME,
    hostname: "localhost",
    tests: String(cases.length),
    failures: String(count("failure")),
    errors: String(count("error")),
    skipped: String(count("skipped")),
    time: seconds.toFixed(3),
  };
  return [
    `  <testsuite${attributeText(attributes)}>`,
    "    <properties>",
    ...properties.map(([key, value]) => `      <property${attributeText({ name: key, value })}/>`),
    "    </properties>",
    ...cases.map(caseElement),
    `    <system-out>${lines(output)}</system-out>`,
    `    <system-err>${lines(errors)}</system-err>`,
    "  </testsuite>",
  ].join("\n");
}

function caseElement({ name, className, outcome }: TestCase): string {
  const opening = `    <testcase${attributeText({ name, classname: className, time: "0.000" })}`;
  if (!outcome) return `${opening}/>`;
  const { kind, type, text } = outcome;
  const message = text.split("\n", 1)[0] ?? "";
  // Neither schema knows both a message and a type of what was skipped.
  const attributes = kind === "skipped" ? { message } : { message, type };
  return `${opening}>\n      <${kind}${attributeText(attributes)}>${lines(text.split("\n"))}</${kind}>\n    </testcase>`;
}

function attributeText(attributes: Readonly<Record<string, string>>): string {
  return Object.entries(attributes)
    .map(([name, value]) => ` ${name}="${escapeMarkup(value.trim()) || "–"}"`)
    .join("");
}

function lines(texts: readonly string[]): string {
  return texts.map(escapeMarkup).join("\n");
}
