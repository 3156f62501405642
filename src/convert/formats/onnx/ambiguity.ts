import type { InputError } from "../../../core/errors.js";
import { quoted } from "../../../core/text.js";
import { standardDomain } from "./graphs.js";
import { int64ToNumber, refusal } from "./limits.js";
import type {
  IAttributeProto,
  IFunctionProto,
  IGraphProto,
  IModelProto,
  INodeProto,
  ITensorProto,
} from "./messages.js";

/**
 * What two readers of a file may interpret differently: duplicate names, tensors whose elements are stored twice,
 * functions with the name of an operator. Runtimes refuse some of it and choose for the rest (onnxruntime 1.2x uses the
 * last of two initializers, the operator and not the function, raw data if an external entry lacks its location).
 * Refusing such files ensures that a file cannot pass as one network and run as another.
 */

/** The scope of a name: a graph's own names, and those of the enclosing graphs. */
interface Names {
  readonly own: ReadonlySet<string>;
  readonly around: Names | undefined;
}

/** @throws InputError (`format`, `unsupported`) naming what is ambiguous */
export function expectUnambiguous(model: IModelProto, subject: string): void {
  const imports = importsOf(model.opsetImport ?? [], subject);
  expectOnce(
    (model.metadataProps ?? []).map(({ key }) => key ?? ""),
    "metadata entries",
    subject,
  );
  const functions = model.functions ?? [];
  expectOnce(
    functions.map(({ domain, name }) => `${standardDomain(domain ?? "")}::${name ?? ""}`),
    "functions",
    subject,
  );
  for (const body of functions) checkFunction(body, imports, subject);
  if (model.graph) checkGraph(model.graph, undefined, { subject, inFunction: false });
}

function importsOf(
  imports: NonNullable<IModelProto["opsetImport"]>,
  subject: string,
): ReadonlyMap<string, number> {
  const versions = new Map<string, number>();
  for (const { domain, version } of imports) {
    const [name, number] = [standardDomain(domain ?? ""), int64ToNumber(version)];
    const known = versions.get(name);
    if (known !== undefined && known !== number)
      throw ambiguous(subject, `operator sets ${known} and ${number} of the domain ${quoted(name)}`, "one");
    versions.set(name, number);
  }
  return versions;
}

/** Domains with operators in runtimes, which run those; in other domains they run the function. */
const RUNTIME_DOMAINS = /^(ai\.onnx(\..*)?|com\.microsoft(\..*)?|com\.ms(\..*)?)?$/;

function checkFunction(body: IFunctionProto, imports: ReadonlyMap<string, number>, file: string): void {
  const [domain, name] = [standardDomain(body.domain ?? ""), body.name ?? ""];
  const subject = `function ${quoted(name)} of ${file}`;
  if (RUNTIME_DOMAINS.test(domain))
    throw ambiguous(
      subject,
      `a function in the domain ${quoted(domain)}, beside the operators of that domain`,
      "functions in a separate domain",
    );
  // An inlined node uses the model's opset.
  const own = importsOf(body.opsetImport ?? [], subject).get("");
  if (own !== undefined && own !== imports.get(""))
    throw ambiguous(
      subject,
      `operator set ${own}, but the model has ${imports.get("") ?? "none"}`,
      "one operator set",
    );
  expectOnce(body.input ?? [], "inputs", subject);
  expectOnce(body.output ?? [], "outputs", subject);
  const inputs = (body.input ?? []).map((input) => ({ name: input }));
  checkGraph({ node: body.node ?? [], input: inputs }, undefined, { subject, inFunction: true });
}

interface Place {
  readonly subject: string;
  readonly inFunction: boolean;
}

function checkGraph(graph: IGraphProto, around: Names | undefined, place: Place): void {
  const { subject } = place;
  const nodes = graph.node ?? [];
  const inputs = named(graph.input);
  const initializers = named(graph.initializer);
  const computed = nodes.flatMap(({ output }) => output ?? []).filter((name) => name !== "");
  expectOnce(inputs, "inputs", subject);
  expectOnce(initializers, "tensors", subject);
  // A tensor that is an input too is its default (always, before IR version 4).
  expectOnce([...new Set([...inputs, ...initializers]), ...computed], "sources of a value", subject);
  expectOnce(named(graph.output), "outputs", subject);
  expectOnce(
    nodes.map(({ name }) => name ?? "").filter((name) => name !== ""),
    "nodes",
    subject,
  );
  const own = new Set([...inputs, ...initializers, ...computed]);
  for (const name of own)
    for (let outer = around; outer; outer = outer.around)
      if (outer.own.has(name))
        throw ambiguous(
          subject,
          `a branch with a value ${quoted(name)}, which the enclosing graph also has`,
          "one",
        );
  for (const tensor of graph.initializer ?? []) checkTensor(tensor, subject);
  for (const node of nodes) checkNode(node, { own, around }, place);
}

/** Limit on the inputs of a node: a file that joins channels one by one has a few hundred. */
const MAX_INPUTS = 4096;

function checkNode(node: INodeProto, names: Names, { subject: file, inFunction }: Place): void {
  const [attributes, inputs] = [node.attribute ?? [], node.input ?? []];
  if (attributes.length === 0 && inputs.length <= MAX_INPUTS) return;
  const subject = `node ${quoted(node.name || node.output?.[0] || "")} (${node.opType ?? ""}) of ${file}`;
  if (inputs.length > MAX_INPUTS)
    throw refusal(subject, `${inputs.length} inputs`, `at most ${MAX_INPUTS}`, "export the model again");
  expectOnce(named(attributes), "attributes", subject);
  for (const attribute of attributes) {
    const fields = fieldsIn(attribute);
    const name = quoted(attribute.name ?? "");
    if (fields.length > 1) throw ambiguous(subject, `attribute ${name} with ${fields.join(" and ")}`, "one");
    if (attribute.refAttrName && (!inFunction || fields.length > 0))
      throw ambiguous(subject, `attribute ${name} that refers to a function's`, "a value");
    if (attribute.t && fields.length > 0) checkTensor(attribute.t, subject);
    if (attribute.g) checkGraph(attribute.g, names, { subject, inFunction });
  }
}

const SINGLE_FIELDS = ["f", "i", "s", "t", "g", "tp", "sparseTensor"] as const;
const LIST_FIELDS = [
  "floats",
  "ints",
  "strings",
  "tensors",
  "graphs",
  "typeProtos",
  "sparseTensors",
] as const;

/**
 * The fields with an attribute's value: generated messages inherit defaults, and only own properties were in the file.
 */
function fieldsIn(attribute: IAttributeProto): readonly string[] {
  return [
    ...SINGLE_FIELDS.filter((field) => Object.hasOwn(attribute, field) && attribute[field] !== null),
    ...LIST_FIELDS.filter((field) => (attribute[field]?.length ?? 0) > 0),
  ];
}

const TYPED_FIELDS = [
  "floatData",
  "int32Data",
  "stringData",
  "int64Data",
  "doubleData",
  "uint64Data",
] as const;

/** TensorProto.DataLocation: the elements are in another file. */
const EXTERNAL = 1;

/** onnx.proto's fields of a tensor in another file. */
const EXTERNAL_KEYS: ReadonlySet<string> = new Set(["location", "offset", "length", "checksum", "basepath"]);

/** A tensor's elements are in one place. */
function checkTensor(proto: ITensorProto, file: string): void {
  const subject = `tensor ${quoted(proto.name ?? "")} of ${file}`;
  const fields = [
    ...TYPED_FIELDS.filter((field) => (proto[field]?.length ?? 0) > 0),
    ...(Object.hasOwn(proto, "rawData") && (proto.rawData?.length ?? 0) > 0 ? ["rawData"] : []),
  ];
  if (fields.length > 1)
    throw ambiguous(subject, `elements in ${fields.join(" and ")}`, "elements in one field");
  const entries = proto.externalData ?? [];
  const isExternal = proto.dataLocation === EXTERNAL;
  if (!isExternal && entries.length > 0)
    throw ambiguous(
      subject,
      "external entries, although its data location is this file",
      "elements in one place",
    );
  if (isExternal && fields.length > 0)
    throw ambiguous(
      subject,
      `elements in ${fields.join(" and ")}, although its data location is another file`,
      "elements in one place",
    );
  const keys = entries.map(({ key }) => key ?? "");
  expectOnce(keys, "external entries", subject);
  // onnxruntime uses `prepacked_…`, if present, instead of the tensor.
  const other = keys.find((key) => !EXTERNAL_KEYS.has(key));
  if (other !== undefined)
    throw refusal(
      subject,
      `the external entry ${quoted(other)}`,
      `${[...EXTERNAL_KEYS].join(", ")}`,
      "save the model without prepacked weights, or with the onnx package",
      "unsupported",
    );
}

function named(items: readonly { readonly name?: string | null }[] | null | undefined): readonly string[] {
  return (items ?? []).map(({ name }) => name ?? "");
}

function expectOnce(names: readonly string[], what: string, subject: string): void {
  const seen = new Set<string>();
  for (const name of names) {
    if (seen.has(name)) throw ambiguous(subject, `two ${what} named ${quoted(name)}`, "one");
    seen.add(name);
  }
}

function ambiguous(subject: string, found: string, expected: string): InputError {
  return refusal(
    subject,
    found,
    expected,
    "export the model again, since readers would disagree about this file",
  );
}
