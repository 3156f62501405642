import type { GlobalName } from "./values.js";

/** Modules that were renamed, by prefix: from Python 2 to 3, numpy 1 to 2, torch 1.7 to 1.8. */
const RENAMED_MODULES: readonly (readonly [from: string, to: string])[] = [
  ["__builtin__", "builtins"],
  ["copy_reg", "copyreg"],
  ["numpy._core", "numpy.core"],
  ["torch.tensor", "torch._tensor"],
];

/** The name of a class or function, its module brought to one spelling. */
export function globalName(module: string, name: string): GlobalName {
  const renamed = RENAMED_MODULES.find(([from]) => module === from || module.startsWith(`${from}.`));
  const current = renamed === undefined ? module : renamed[1] + module.slice(renamed[0].length);
  return { kind: "global", path: `${current}.${name}` };
}

/** Functions whose call is only recorded: what rebuilds tensors, arrays and values that training leaves behind. */
const RECORDED_FUNCTIONS: ReadonlySet<string> = new Set([
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
  "torch.jit._pickle.build_boollist",
  "torch.jit._pickle.build_doublelist",
  "torch.jit._pickle.build_intlist",
  "torch.jit._pickle.build_tensorlist",
  "torch.jit._pickle.restore_type_tag",
  "torch.nn.backends.thnn._get_thnn_function_backend", // in every module before 1.4
  "torch.serialization._get_layout",
  "numpy.core.multiarray._reconstruct",
  "numpy.core.multiarray.scalar",
  "numpy.core.numeric._frombuffer",
  "numpy.random.__RandomState_ctor",
  "numpy.dtype",
  "numpy.ndarray",
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

/** Whether a call of this function, outside the table of values it computes, is recorded rather than refused. */
export function isRecordedFunction(path: string): boolean {
  return RECORDED_FUNCTIONS.has(path) || isClassLike(path);
}

/**
 * Whether a name is a class by Python's convention (CapWords, perhaps after underscores). Constructing a class means
 * an object of that class; calling any other function means running it, and only its code knows what comes out.
 */
export function isClassLike(path: string): boolean {
  return /^_*[A-Z]/.test(path.slice(path.lastIndexOf(".") + 1));
}

/**
 * Top-level modules whose classes and functions serve to run code, open files or reach the network. Nothing here runs
 * either way; a checkpoint that asks for them is an attack, and saying so beats reading around it.
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

/** The same in modules that are otherwise harmless. */
const ATTACK_CLASSES: ReadonlySet<string> = new Set([
  "logging.FileHandler",
  "types.CodeType",
  "types.FunctionType",
]);

/** Whether a class or function is one that a checkpoint has no business with. */
export function isAttackName(path: string): boolean {
  return ATTACK_MODULES.has(path.slice(0, path.indexOf("."))) || ATTACK_CLASSES.has(path);
}
