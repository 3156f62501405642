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
  "numpy.random.bit_generator.__pyx_unpickle_SeedSequence",
  "numpy.random._pickle.__generator_ctor",
  "numpy.random._pickle.__randomstate_ctor",
  "builtins.complex",
  "builtins.object",
  "builtins.range",
  "builtins.slice",
  "builtins.xrange", // Python's name for range in protocol 2
  "collections.deque",
  "datetime.date",
  "datetime.datetime",
  "datetime.time",
  "datetime.timedelta",
  "datetime.timezone",
  "functools.partial",
  "logging.getLogger",
  "re._compile",
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
 * Modules that everybody has: Python's, of 2.7 and 3, and what often comes with it. Among their classes are those that run what they are given, open
 * files or read it in their own way. Nothing is run in any case; a checkpoint that asks for them is an attack, and the user should be told.
 */
const PYTHON_MODULES: ReadonlySet<string> = new Set(
  `
  abc aifc aiohttp annotationlib anydbm argparse array ast asynchat asyncio asyncore atexit audioop base64 BaseHTTPServer Bastion bdb binascii
  bisect builtins bz2 calendar cgi CGIHTTPServer cgitb chunk cmath cmd code codecs codeop collections colorsys commands compileall compiler
  compression concurrent ConfigParser configparser contextlib contextvars Cookie cookielib copy copy_reg copyreg cPickle cProfile crypt cStringIO
  csv ctypes curses dataclasses datetime dbhash dbm decimal Dialog difflib dircache dis distutils doctest DocXMLRPCServer dumbdbm dummy_thread email
  encodings ensurepip enum errno exceptions faulthandler fcntl filecmp FileDialog fileinput fnmatch fpformat fractions ftplib functools gc gdbm
  genericpath getopt getpass gettext glob graphlib grp gzip hashlib heapq hmac hotshot html htmlentitydefs htmllib HTMLParser http httplib idlelib
  ihooks imaplib imghdr imp importlib imputil inspect io ipaddress itertools json keyword lib2to3 linecache locale logging lzma mailbox mailcap
  markupbase marshal math mhlib mimetools mimetypes mimify mmap modulefinder msilib msvcrt multifile multiprocessing mutex netrc nis nntplib nt
  ntpath nturl2path numbers opcode operator optparse os ossaudiodev pathlib pdb pickle pickletools pip pipes pkg_resources pkgutil platform plistlib
  popen2 poplib posix posixfile posixpath pprint profile pstats pty pwd py_compile pyclbr pydoc pydoc_data pyexpat Queue queue quopri random re
  readline repr reprlib requests rexec rfc822 rlcompleter robotparser runpy sched ScrolledText secrets select selectors setuptools sgmllib shelve
  shlex shutil signal SimpleDialog SimpleHTTPServer SimpleXMLRPCServer site smtpd smtplib sndhdr socket SocketServer socketserver spwd sqlite3
  sre_compile sre_constants sre_parse ssl stat statistics statvfs string StringIO stringold stringprep strop struct subprocess sunau symtable sys
  sysconfig syslog tabnanny tarfile telnetlib tempfile termios textwrap thread threading time timeit Tix tkColorChooser tkCommonDialog Tkconstants
  Tkdnd tkFileDialog tkFont Tkinter tkinter tkMessageBox tkSimpleDialog toaiff token tokenize tomllib trace traceback tracemalloc ttk tty turtle
  turtledemo types typing unicodedata unittest urllib urllib2 urlparse UserDict UserList UserString uu uuid venv warnings wave weakref webbrowser
  whichdb winreg winsound wsgiref xdrlib xml xmlrpc xmlrpclib zipapp zipfile zipimport zlib zoneinfo
  `.match(/\w+/g),
);

/** Their classes of plain data, as training leaves them. */
const DATA_CLASS =
  /^(?:argparse\.Namespace|(?:builtins|exceptions)\.[A-Z]\w+|collections\.(?:Counter|OrderedDict|User(?:Dict|List|String)|defaultdict|deque)|contextlib\.nullcontext|decimal\.Decimal|fractions\.Fraction|logging\.(?:Filter|Formatter|Logger|LoggerAdapter|PercentStyle|StreamHandler)|pathlib\.(?:_local\.)?(?:Pure)?(?:Posix|Windows)?Path|random\.Random|types\.SimpleNamespace|uuid\.(?:UUID|SafeUUID)|zoneinfo\.ZoneInfo)$/;

/** Whether a class is Python's, torch's or numpy's, whose code everybody has; that of any other is not known. */
export function isKnownCode(path: string): boolean {
  const module = path.slice(0, path.indexOf("."));
  return (
    PYTHON_MODULES.has(module) ||
    module === "torch" ||
    module === "numpy" ||
    (module.startsWith("_") && !/^__(?:main|torch)__$/.test(module))
  );
}

/** Whether a class or function has no place in a checkpoint. */
export function isAttackName(path: string): boolean {
  const isPython = isKnownCode(path) && !/^(?:torch|numpy)\./.test(path);
  return isPython && !RECORDED_FUNCTIONS.has(path) && !DATA_CLASS.test(path);
}

/** torch's classes whose objects are the tensor that they are given. */
export const TENSOR_CLASS: RegExp =
  /^torch\.(?:autograd\.variable\.Variable|nn\.parameter\.(?:Parameter|Buffer)|(?:\w+\.)*\w*Tensor)$/;

/**
 * What torch's C++ knows, and treats as Python does: the classes of an archive's code, and what its own pickler writes. After
 * `_rebuild_from_type_v2` it mistakes the next class for another (unpickler.cpp, `skip_next_read_global`).
 */
export const SCRIPT_NAME: RegExp =
  /^(?:__torch__\..+|builtins\.complex|collections\.OrderedDict|torch\.(?:device|\w+Storage|_utils\._rebuild_(?:tensor_v2|qtensor|sparse_tensor)|jit\._pickle\.(?:build_\w+list|restore_type_tag)))$/;
