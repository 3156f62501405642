import type { GlobalName, InertObject } from "./values.js";

/** What the name of a class or function says about a call of it. */

/** Modules that were renamed, by prefix: from Python 2 to 3, numpy 1 to 2, torch 1.7 to 1.8. */
const RENAMED_MODULES: readonly (readonly [from: string, to: string])[] = [
  ["__builtin__", "builtins"],
  ["copy_reg", "copyreg"],
  ["numpy._core", "numpy.core"],
  ["torch.tensor", "torch._tensor"],
];

/** The name of a class or function, with its module's name normalised. */
export function globalName(module: string, name: string): GlobalName {
  const renamed = RENAMED_MODULES.find(([from]) => module === from || module.startsWith(`${from}.`));
  const current = renamed === undefined ? module : renamed[1] + module.slice(renamed[0].length);
  return { kind: "global", path: `${current}.${name}` };
}

/** Functions whose call is only recorded: they rebuild tensors, arrays and values left by training. */
export const RECORDED_FUNCTIONS: ReadonlySet<string> = new Set([
  "torch._tensor._rebuild_from_type_v2",
  "torch._utils._rebuild_device_tensor_from_cpu_tensor",
  "torch._utils._rebuild_device_tensor_from_numpy",
  "torch._utils._rebuild_meta_tensor_no_storage",
  "torch._utils._rebuild_nested_tensor",
  "torch._utils._rebuild_parameter",
  "torch._utils._rebuild_parameter_with_state",
  "torch._utils._rebuild_qtensor",
  "torch._utils._rebuild_sparse_csr_tensor",
  "torch._utils._rebuild_sparse_tensor",
  "torch._utils._rebuild_tensor",
  "torch._utils._rebuild_tensor_v2",
  "torch._utils._rebuild_tensor_v3",
  "torch._utils._rebuild_wrapper_subclass",
  "torch._utils._rebuild_xla_tensor",
  "torch.device",
  "torch.nn.backends.thnn._get_thnn_function_backend", // in every module before 1.4
  "torch.serialization._get_layout",
  "numpy.core.multiarray._reconstruct",
  "numpy.core.multiarray.scalar",
  "numpy.core.numeric._frombuffer",
  "numpy.random.__RandomState_ctor",
  "numpy.dtype",
  "numpy.random._pickle.__bit_generator_ctor",
  "numpy.random._pickle.__generator_ctor",
  "numpy.random._pickle.__randomstate_ctor",
  "builtins.complex",
  "builtins.object",
  "builtins.range",
  "builtins.slice",
  "collections.deque",
  "datetime.date",
  "datetime.datetime",
  "datetime.time",
  "datetime.timedelta",
  "datetime.timezone",
  "functools.partial",
  "logging.getLogger",
]);

/**
 * Whether an object may get a state: what torch's functions return may be what they were given, such as a tensor that
 * is on the device already, which a state would change, and so may an attribute of a class be a method of others.
 */
export function takesState({ path }: InertObject): boolean {
  return path !== ENUM_MEMBER && !(path.startsWith("torch.") && RECORDED_FUNCTIONS.has(path));
}

/** As the first releases of Python 3.11 pickle a member of an enumeration. */
export const ENUM_MEMBER = "builtins.getattr";

/** Whether a call of this function, outside the table of computed values, is recorded rather than refused. */
export function isRecordedFunction(path: string): boolean {
  return RECORDED_FUNCTIONS.has(path) || isClassLike(path);
}

/**
 * Whether a name is a class by Python's convention (CapWords, perhaps after underscores). Constructing a class gives an
 * object of that class; calling any other function means running it, with an unknown result.
 */
export function isClassLike(path: string): boolean {
  return /^_*[A-Z]/.test(path.slice(path.lastIndexOf(".") + 1));
}

/**
 * Top-level modules whose classes and functions run code, open files or access the network. Nothing is run in any case;
 * a checkpoint that asks for them is an attack, and the user should be told.
 */
const ATTACK_MODULES: ReadonlySet<string> = new Set([
  "_io",
  "_pickle",
  "aiohttp",
  "asyncio",
  "bdb",
  "cProfile",
  "code",
  "codeop",
  "commands",
  "concurrent",
  "ctypes",
  "distutils",
  "doctest",
  "ensurepip",
  "ftplib",
  "http",
  "httplib",
  "idlelib",
  "imaplib",
  "imp",
  "importlib",
  "io",
  "lib2to3",
  "marshal",
  "multiprocessing",
  "nntplib",
  "nt",
  "os",
  "pdb",
  "pickle",
  "pip",
  "pkgutil",
  "popen2",
  "posix",
  "profile",
  "pty",
  "pydoc",
  "requests",
  "runpy",
  "shutil",
  "site",
  "smtplib",
  "socket",
  "socketserver",
  "ssl",
  "subprocess",
  "sys",
  "telnetlib",
  "tempfile",
  "threading",
  "timeit",
  "trace",
  "urllib",
  "urllib2",
  "venv",
  "webbrowser",
  "xmlrpc",
  "zipimport",
]);

/** The same, in otherwise harmless modules. */
const ATTACK_CLASSES: ReadonlySet<string> = new Set([
  "logging.FileHandler",
  "types.CodeType",
  "types.FunctionType",
]);

/** Whether a class or function has no place in a checkpoint. */
export function isAttackName(path: string): boolean {
  return ATTACK_MODULES.has(path.slice(0, path.indexOf("."))) || ATTACK_CLASSES.has(path);
}

/** torch's classes whose objects are the tensor that they are given. */
export const TENSOR_CLASS: RegExp =
  /^torch\.(?:autograd\.variable\.Variable|nn\.parameter\.(?:Parameter|Buffer)|(?:\w+\.)*\w*Tensor)$/;

/** Built-in classes that call what they are given are written in small letters, as others are not. */
const ITERATORS = /^(?:builtins|functools|itertools|_?operator)\.[a-z_]\w*$/;

/** Whether an object of a class can be made: no attack, and no iterator. */
export function mayBeMade(path: string): boolean {
  return !isAttackName(path) && (!ITERATORS.test(path) || isRecordedFunction(path));
}

/**
 * What torch's C++ knows, and takes for what Python does: the classes of an archive's code, and what its own pickler writes. After
 * `_rebuild_from_type_v2` it takes the next class for another (unpickler.cpp, `skip_next_read_global`).
 */
export const SCRIPT_NAME: RegExp =
  /^(?:__torch__\..+|builtins\.complex|collections\.OrderedDict|torch\.(?:device|\w+Storage|_utils\._rebuild_(?:tensor_v2|qtensor|sparse_tensor)|jit\._pickle\.(?:build_\w+list|restore_type_tag)))$/;
