import type { LayerGraph, LayerNode, Op, OpKind, OsnetSpec } from "../../arch/index.js";
import { InputError } from "../../core/errors.js";
import type { AttributeValue, PickledModule, PickledWrapper } from "../formats/pth/modules.js";
import { printable } from "../formats/refusals.js";

/**
 * The modules of a model pickled whole, compared with the layers of a network: class and attributes of every module
 * that computes. The `forward` of a custom class is in its code, which is not in the file.
 */

type Modules = ReadonlyMap<string, PickledModule>;

/** The choices of a spec that a state dict does not show, as the modules have them. */
export function adopted(spec: OsnetSpec, modules: Modules): OsnetSpec {
  const gate = [...modules].find(([path]) => path.endsWith(".gate.gate_activation"))?.[1];
  const hasGates = [...modules.keys()].some((path) => path.endsWith(".gate.fc2"));
  const activation =
    gate === undefined || classOf(gate) === "Identity"
      ? hasGates
        ? "linear"
        : spec.gate.activation
      : classOf(gate) === "ReLU"
        ? "relu"
        : "sigmoid";
  const pool = modules.get("global_pool") ?? modules.get("global_avgpool") ?? modules.get("global_maxpool");
  const pooling = pool !== undefined && classOf(pool) === "AdaptiveMaxPool2d" ? "max" : "avg";
  return { ...spec, gate: { ...spec.gate, activation }, pooling };
}

/** The expected value of an attribute. An absent one counts as the value in PyTorch's versions without it. */
interface Expectation {
  readonly classes: readonly string[];
  readonly attributes: Readonly<Record<string, AttributeValue | readonly [AttributeValue, "absent"]>>;
  /** Other values by which a module computes the same; undefined stands for any. */
  readonly also?: Readonly<Record<string, readonly AttributeValue[] | undefined>>;
}

/** Attributes that have no effect in evaluation mode, or that the shapes of parameters show. */
const SILENT: ReadonlySet<string> = new Set([
  "count_include_pad",
  "in_channels",
  "in_features",
  "inplace",
  "momentum",
  "normalized_shape",
  "num_features",
  "out_channels",
  "out_features",
  "process_group",
  "training",
]);

const optional = (value: AttributeValue): readonly [AttributeValue, "absent"] => [value, "absent"];

/** Layers that are separate modules; scales, sums and flattening are code. */
function expectationOf({ op }: LayerNode): Expectation | undefined {
  switch (op.kind) {
    case "conv":
      return {
        classes: ["Conv2d"],
        attributes: {
          kernel_size: op.kernel,
          stride: op.stride,
          padding: op.padding,
          dilation: [1, 1],
          groups: op.groups,
          transposed: false,
          output_padding: [0, 0],
          padding_mode: optional("zeros"),
        },
        also: convAlso(op),
      };
    case "linear":
      return { classes: ["Linear"], attributes: {} };
    case "batchNorm":
      return {
        classes: ["BatchNorm1d", "BatchNorm2d", "SyncBatchNorm"],
        attributes: { eps: op.epsilon, affine: true, track_running_stats: optional(true) },
      };
    case "instanceNorm":
      return {
        classes: ["InstanceNorm2d"],
        attributes: { eps: op.epsilon, affine: true, track_running_stats: optional(false) },
      };
    case "layerNorm":
      return { classes: ["LayerNorm"], attributes: { eps: op.epsilon, elementwise_affine: true } };
    case "relu":
      return { classes: ["ReLU"], attributes: {} };
    case "sigmoid":
      return { classes: ["Sigmoid"], attributes: {} };
    case "maxPool":
      return {
        classes: ["MaxPool2d"],
        attributes: {
          kernel_size: op.kernel,
          stride: op.stride,
          padding: op.padding,
          dilation: [1, 1],
          ceil_mode: false,
          return_indices: false,
        },
      };
    case "avgPool":
      return {
        classes: ["AvgPool2d"],
        attributes: {
          kernel_size: op.kernel,
          stride: op.stride,
          padding: [0, 0],
          ceil_mode: false,
          divisor_override: optional(null),
        },
      };
    case "globalAvgPool":
      return { classes: ["AdaptiveAvgPool2d"], attributes: { output_size: [1, 1] } };
    case "globalMaxPool":
      return { classes: ["AdaptiveMaxPool2d"], attributes: { output_size: [1, 1], return_indices: false } };
    default:
      return undefined;
  }
}

/**
 * `same` pads rows and columns by half of what is around a kernel's centre, and PyTorch has it for strides of 1 only; `valid` does not pad.
 * A kernel of one pixel cannot be padded or dilated.
 */
function convAlso({ kernel, stride, padding }: Op<"conv">): NonNullable<Expectation["also"]> {
  const isUnpadded = padding.every((size) => size === 0);
  const isSame =
    stride.every((size) => size === 1) && padding.every((size, axis) => 2 * size + 1 === kernel[axis]);
  return {
    padding: [...(isSame ? ["same"] : []), ...(isUnpadded ? ["valid"] : [])],
    ...(isUnpadded ? { padding_mode: undefined } : {}),
    ...(kernel.every((size) => size === 1) ? { dilation: undefined } : {}),
  };
}

/** Modules that do nothing in evaluation mode. */
const IDLE = /^(?:Identity|(?:Alpha|Feature)?(?:Alpha)?Dropout[123]?d?)$/;

const IDLE_ATTRIBUTES: ReadonlySet<string> = new Set(["p"]);

/** A module that contains modules is not idle: it replaces what computes them. */
function isIdle(module: PickledModule): boolean {
  return OWN_CLASS.test(module.className) && IDLE.test(classOf(module)) && module.children.length === 0;
}

/** The modules of a network; others belong to a head. */
const BACKBONE = /^(?:conv\d+|pool\d*|maxpool|global_(?:avg|max)?pool|fc|)$/;

const OWN_CLASS = /^torch\.nn\.modules\.\w+\.\w+$/;

/** Modules that a block may have besides the network's layers: osnet_ain's blocks have a ReLU of their own. */
const BLOCK_RELU = /^conv\d+\.\d+\.relu$/;

/** The parts of a model pickled whole that could not be checked. */
export interface CheckedModules {
  readonly notes: readonly string[];
  /** Classes that are neither PyTorch's nor torchreid's, by module and name: what their code computes is not known. */
  readonly unread: readonly string[];
}

/** Modules in which torchreid, and those that copy it, have the classes of its networks. */
const TORCHREID = /(?:^|\.)osnet(?:_ain|_ibn)?\.(\w+)$/;

/** Whether a class is PyTorch's, or of a name and in a module as torchreid has them. */
function isKnown(className: string): boolean {
  if (className.startsWith("torch.")) return true;
  const name = TORCHREID.exec(className)?.[1];
  return name !== undefined && PLACES.some((place) => place.className.test(name));
}

/**
 * @param wrappers the modules around the model
 * @throws InputError (`unsupported`) listing every module that computes something else than its layer
 */
export function checkModules(
  graph: LayerGraph,
  modules: Modules,
  subject: string,
  wrappers: readonly PickledWrapper[] = [],
): CheckedModules {
  const problems: string[] = [];
  const expected = new Map<string, Expectation>();
  const kinds = new Map<string, OpKind>();
  for (const node of graph.nodes) {
    const path = node.name.replace(/\[\d+\]/, "");
    const expectation = expectationOf(node);
    // The ReLU after a block's sum has no module, or one named after the block; a sigmoid over classes has none.
    if (expectation === undefined || path === node.block || path === "classifier.sigmoid") continue;
    expected.set(path, expectation);
    kinds.set(path, node.op.kind);
  }
  for (const [path, expectation] of expected) {
    const module = modules.get(path);
    if (module === undefined)
      problems.push(`${path}: not a module, but the network has ${expectation.classes[0]}`);
    else problems.push(...layerProblems(path, module, expectation));
  }
  const unread = new Set(wrappers.map(({ className }) => className).filter((name) => !isKnown(name)));
  for (const wrapper of wrappers) problems.push(...wrapperProblems(wrapper));
  for (const [path, { ambiguities }] of modules)
    problems.push(...ambiguities.map((what) => `${path || "the model"} has ${what}`));
  for (const [path, module] of modules) {
    if (expected.has(path) || !BACKBONE.test(path.split(".", 1)[0] ?? "")) continue;
    problems.push(...otherProblems(path, module));
    const isAnother = hasOtherChildren(module) || hasOtherNorms(module, normsOf(graph, path));
    if (isAnother && module.className.startsWith("torchreid."))
      problems.push(`${path || "the model"} has modules that ${printable(module.className)} does not have`);
    if (isAnother || !isKnown(module.className)) unread.add(module.className);
  }
  if (problems.length > 0)
    throw new InputError({
      code: "unsupported",
      subject,
      found: `a model that computes something else: ${problems[0]}${problems.length > 1 ? ` and ${problems.length - 1} more` : ""}`,
      expected: "the modules of an OSNet",
      remedy: "use a model built from torchreid's modules; saving only its weights would hide the difference",
      details: problems.length > 1 ? problems : [],
    });
  const training = [...modules.values()].filter(
    ({ attributes }) => attributes.get("training") === true,
  ).length;
  const named = [...unread].slice(0, MAX_NAMED).map(printable);
  const more = unread.size > named.length ? ` and ${unread.size - named.length} more` : "";
  return {
    notes: [
      `checked the attributes of ${expected.size} modules; the code of their classes is not in the file`,
      ...(training > 0
        ? [
            `${training} of ${modules.size} modules were saved in training mode; they are treated as after model.eval()`,
          ]
        : []),
      ...(unread.size > 0
        ? [
            `the code of ${named.join(", ")}${more} was not checked: it belongs to neither PyTorch nor torchreid`,
          ]
        : []),
    ],
    unread: [...unread],
  };
}

/** Classes whose forward is that of the one module in them. */
const TRANSPARENT =
  /^torch\.(?:nn\.parallel\.(?:data_parallel\.DataParallel|distributed\.DistributedDataParallel)|optim\.swa_utils\.AveragedModel|_dynamo\.eval_frame\.OptimizedModule)$/;

/** Additional computation of a module around the network. That of a custom class is in its code. */
function wrapperProblems({ className, inner, beside, attributes, ambiguities }: PickledWrapper): string[] {
  const name = `the ${printable(className)} around the model`;
  const problems = ambiguities.map((what) => `${name} has ${what}`);
  if (!className.startsWith("torch.")) return problems;
  const isSequence = className === "torch.nn.modules.container.Sequential";
  if (!isSequence && !TRANSPARENT.test(className)) return [...problems, `${name} computes something else`];
  const others = beside.filter(
    (module) =>
      !(isSequence && isIdle(module) && strangeAttributes("", module, IDLE_ATTRIBUTES).length === 0),
  );
  return [
    ...problems,
    ...others.map((module) => `${name} also has ${printable(module.className)}`),
    ...shadows(attributes, [inner]).map((key) => `${name} has ${printable(key)} of its own`),
  ];
}

/** Maximum number of classes in a note. */
const MAX_NAMED = 8;

function layerProblems(
  path: string,
  module: PickledModule,
  { classes, attributes, also = {} }: Expectation,
): string[] {
  const { className } = module;
  if (!OWN_CLASS.test(className) || !classes.includes(classOf(module)))
    return [`${path} is ${printable(className)}, not ${classes[0]}`];
  const problems: string[] = [];
  for (const [name, value] of Object.entries(attributes)) {
    const [expected, absent] = isOptional(value) ? value : ([value, undefined] as const);
    const found = attributeOf(module, name);
    const isAlike = name in also && (also[name]?.some((other) => other === found) ?? found !== undefined);
    if (isAlike) continue;
    if (found === undefined ? absent === undefined : !sameValue(found, expected))
      problems.push(`${path} (${classOf(module)}) has ${name} ${show(found)}, not ${show(expected)}`);
  }
  return [...problems, ...strangeAttributes(path, module, new Set(Object.keys(attributes)))];
}

/** What Python finds under a name: an attribute, or else a child. */
function attributeOf({ attributes, children }: PickledModule, name: string): AttributeValue | undefined {
  return attributes.get(name) ?? (children.includes(name) ? { type: "a module" } : undefined);
}

/** Containers, and modules that the network does not have. */
function otherProblems(path: string, module: PickledModule): string[] {
  const { className, children, attributes } = module;
  const name = path === "" ? "the model" : path;
  const isOwn = OWN_CLASS.test(className);
  if (isIdle(module)) return strangeAttributes(path, module, IDLE_ATTRIBUTES);
  if (isOwn && BLOCK_RELU.test(path) && classOf(module) === "ReLU")
    return strangeAttributes(path, module, new Set());
  if (children.length === 0) return [`${name} is ${printable(className)}, which the network does not have`];
  if (isOwn && !["Sequential", "ModuleList"].includes(classOf(module)))
    return [`${name} is ${printable(className)}, which the network does not have`];
  const numbers = children.map(Number);
  if (isOwn && numbers.some((number, index) => !(number > (numbers[index - 1] ?? -1))))
    return [`${name} computes its modules in the order ${children.slice(0, 8).map(printable).join(", ")}`];
  // Python uses the truth value.
  const returnsGates = attributeOf(module, "return_gates") ?? false;
  if (returnsGates !== false) return [`${name} has return_gates ${show(returnsGates)}`];
  const place = PLACES.find(({ className: known }) => known.test(classOf(module)));
  if (!isOwn && place && !place.paths.test(path))
    return [`${name} is ${printable(className)}, which torchreid uses elsewhere`];
  return shadows(attributes, children)
    .filter(
      (key) =>
        children.includes(key) || key.startsWith("_") || (READ.test(key) && !isData(attributes.get(key))),
    )
    .map((key) => `${name} has ${printable(key)} of its own`);
}

/** Prefixes of the names that torch.nn.Module and torchreid's classes look up when they run; other attributes are notes. */
const READ =
  /^(?:forward|featuremaps|call|train|eval|apply|loss|feature|conv|pool|IN|gate|global|maxpool|downsample|classifier|bn|norm|relu|layers|ops|fc|return)/;

/** Whether a value cannot be called. */
function isData(value: AttributeValue | undefined): boolean {
  return value !== undefined && isObject(value) && /^(?:dict|set|list or tuple|bytes)$/.test(value.type);
}

/** Objects that DataParallel, its distributed form and AveragedModel keep as attributes; PyTorch has no method of these names. */
const NOT_CALLED: ReadonlySet<string> = new Set(["src_device_obj", "device", "avg_fn", "multi_avg_fn"]);

/**
 * Attributes that Python finds before a module's class or children: with a child's name, or any object that could be
 * callable and shadow a method.
 */
function shadows(attributes: PickledModule["attributes"], children: readonly string[]): string[] {
  return [...attributes].flatMap(([key, value]) =>
    children.includes(key) || (isObject(value) && !NOT_CALLED.has(key)) ? [key] : [],
  );
}

/** Where torchreid's networks have their classes, the attribute and search models among them. */
const PLACES: readonly { readonly className: RegExp; readonly paths: RegExp }[] = [
  { className: /^(?:OSNet|BaseNet)$/, paths: /^$/ },
  { className: /^ConvLayer$/, paths: /^conv1$/ },
  { className: /^Conv1x1$/, paths: /^(?:conv5|conv\d+\.\d+\.conv1|conv\d+\.\d+\.0|pool\d+\.0)$/ },
  { className: /^Conv1x1Linear$/, paths: /^conv\d+\.\d+\.(?:conv3|downsample)$/ },
  { className: /^LightConv3x3$/, paths: /^conv\d+\.\d+\.conv2[a-z]?(?:\.\d+)?(?:\.layers\.\d+)?$/ },
  { className: /^LightConvStream$/, paths: /^conv\d+\.\d+\.conv2\.\d+$/ },
  { className: /^ChannelGate$/, paths: /^conv\d+\.\d+\.gate$/ },
  { className: /^(?:OSBlock|NASBlock)/, paths: /^conv\d+\.\d+$/ },
  { className: /^Conv3x3$/, paths: /^(?!)/ },
];

/** torchreid's classes that call some children in one of its modules, and not in the other. */
const CHILDREN: readonly {
  readonly className: RegExp;
  readonly names: RegExp;
  readonly has: boolean;
}[] = [
  { className: /(?:^|\.)osnet\.OSNet$/, names: /^pool\d$/, has: false },
  { className: /(?:^|\.)osnet_ain\.OSNet$/, names: /^pool2$/, has: true },
  { className: /(?:^|\.)osnet_ain\.OSBlock$/, names: /^IN$/, has: false },
  { className: /(?:^|\.)osnet_ain\.OSBlockINin$/, names: /^IN$/, has: true },
];

/** Whether a class has children that torchreid's of that name does not call, or lacks some; other projects have such names too. */
function hasOtherChildren({ className, children }: PickledModule): boolean {
  return CHILDREN.some(
    (row) => row.className.test(className) && children.some((name) => row.names.test(name)) !== row.has,
  );
}

/** Where torchreid's blocks have their instance norms: before the residual addition, or after it. */
const NORMS: readonly { readonly className: RegExp; readonly places: RegExp }[] = [
  { className: /(?:^|\.)osnet\.OSBlock$/, places: /^(?:outside)?$/ },
  { className: /(?:^|\.)osnet_ain\.OSBlock$/, places: /^$/ },
  { className: /\.OSBlockIN(?:in|v1)$/, places: /^inside$/ },
  { className: /\.OSBlockINv2$/, places: /^outside$/ },
  { className: /\.OSBlockINv3$/, places: /^inside outside$/ },
];

function hasOtherNorms({ className }: PickledModule, places: string): boolean {
  return NORMS.some((row) => row.className.test(className) && !row.places.test(places));
}

/** The places of a block's instance norms, in order. */
function normsOf({ nodes }: LayerGraph, block: string): string {
  const norms = nodes.filter((node) => node.block === block && node.op.kind === "instanceNorm");
  return norms.map(({ inputs }) => (inputs[0] === `${block}.add` ? "outside" : "inside")).join(" ");
}

/** Attributes that PyTorch's class does not have, and hooks. */
function strangeAttributes(
  path: string,
  { attributes, className }: PickledModule,
  known: ReadonlySet<string>,
): string[] {
  return [...attributes].flatMap(([name, value]) => {
    if (known.has(name) || SILENT.has(name) || name === "_reversed_padding_repeated_twice") return [];
    const isMark = name.startsWith("_") && !isObject(value);
    return isMark
      ? []
      : [
          `${path} (${printable(className.slice(className.lastIndexOf(".") + 1))}) has ${printable(name)} ${show(value)}`,
        ];
  });
}

function classOf({ className }: PickledModule): string {
  return className.slice(className.lastIndexOf(".") + 1);
}

function isOptional(
  value: AttributeValue | readonly [AttributeValue, "absent"],
): value is readonly [AttributeValue, "absent"] {
  return Array.isArray(value) && value[1] === "absent";
}

/** A size may be one number for both dimensions. */
function sameValue(found: AttributeValue, expected: AttributeValue): boolean {
  if (!isList(expected)) return found === expected;
  const [first] = expected;
  if (!isList(found)) return found === first && expected.every((item) => item === first);
  return found.length === expected.length && found.every((item, index) => item === expected[index]);
}

function isList(value: AttributeValue): value is readonly AttributeValue[] {
  return Array.isArray(value);
}

function isObject(value: AttributeValue): value is { readonly type: string } {
  return typeof value === "object" && value !== null && !isList(value);
}

function show(value: AttributeValue | undefined): string {
  if (value === undefined) return "nothing";
  if (isList(value)) return `(${value.map(show).join(", ")})`;
  return isObject(value) ? value.type : printable(String(value));
}
