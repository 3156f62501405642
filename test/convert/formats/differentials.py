"""Odd files and what their formats' own loaders make of them: fixtures/reader-differentials.json.gz.

Run with torch, numpy and safetensors: python test/convert/formats/differentials.py fixtures/reader-differentials.json.gz
Every file is tiny, made from a seed, and loaded by torch.load, numpy.load or safetensors. Recorded is what came out (dtype,
shape and bytes of each array), or null where the loader raised. The reader's test asks for the same, or a refusal.
"""

import base64, gzip, io, json, pickle, random, struct, sys, tempfile, warnings, zipfile, zlib

import numpy as np
import safetensors.numpy
import torch

warnings.simplefilter("ignore")
rng = random.Random(20)
DATA = {"0": struct.pack("<6f", 1, -2, 3, 4, 5, -6), "1": struct.pack("<4f", 7, 8, -9, 10)}


# Pickles, opcode by opcode.
def text(s): b = s.encode("utf-8", "surrogatepass"); return b"X" + struct.pack("<I", len(b)) + b
def integer(n): return b"J" + struct.pack("<i", n)
def tup(*items): return b"(" + b"".join(items) + b"t"
def glob(path): m, _, n = path.rpartition("."); return f"c{m}\n{n}\n".encode()
def call(path, *args): return glob(path) + tup(*args) + b"R"
def mapping(*pairs): return b"}(" + b"".join(k + v for k, v in pairs) + b"u"
def sizes(numbers): return tup(*map(integer, numbers))
NONE, FALSE, TRUE = b"N", b"\x89", b"\x88"
HOOKS = glob("collections.OrderedDict") + b")R"


def storage(key="0", kind="Float", numel=None, location="cpu", tail=b""):
    count = len(DATA[key]) // 4 if numel is None and key in DATA else (numel or 0)
    return tup(text("storage"), glob(f"torch.{kind}Storage"), text(key), text(location), integer(count), tail) + b"Q"


def strided(fn="v2", key="0", offset=integer(0), shape=None, stride=None, hooks=HOOKS, metadata=b"", dtype="float32", **of):
    numbers = {"0": [2, 3], "1": [4]}[key]
    shape = sizes(numbers) if shape is None else shape
    stride = sizes([3, 1] if key == "0" else [1]) if stride is None else stride
    args = [storage(key, **of), offset, shape, stride]
    if fn == "v1": return call("torch._utils._rebuild_tensor", *args)
    if fn == "v3": return call("torch._utils._rebuild_tensor_v3", *args, FALSE, hooks, glob(f"torch.{dtype}"), metadata)
    return call("torch._utils._rebuild_tensor_v2", *args, FALSE, hooks, metadata)


PLAIN = strided()
OTHER = strided(key="1")


def archive(entries, flags=0, comment=b"", local=None, central=None, prefix=b"", field=b"", tail=b"", shift=0, size_off=0):
    """A zip of stored entries, with what its headers say changed by `local` and `central` (dicts by name)."""
    body, directory = bytearray(prefix), bytearray()
    for name, data in entries:
        raw = name if isinstance(name, bytes) else name.encode()
        said = (local or {}).get(name, raw)
        also = (central or {}).get(name, raw)
        at = len(body)
        fields = struct.pack("<HHHIII", 0, 0, 0, zlib.crc32(data), len(data), len(data))
        body += b"PK\3\4" + struct.pack("<HH", 20, flags) + fields + struct.pack("<HH", len(said), 0) + said + data
        directory += b"PK\1\2" + struct.pack("<HHH", 20, 20, flags) + fields + struct.pack(
            "<HHHHHII", len(also), len(field), 0, 0, 0, 0, at) + also + field
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, len(entries), len(entries), len(directory) + size_off, len(body) + shift, len(comment))
    return bytes(body + directory + end) + comment + tail


def checkpoint(value, extra=(), data=DATA, **how):
    entries = [("a/data.pkl", b"\x80\x02" + value + b".")] + [(f"a/data/{k}", v) for k, v in data.items()]
    return archive([*entries, ("a/version", b"3\n"), *extra], **how)


def weights(tensor, other=OTHER):
    return mapping((text("w"), tensor), (text("v"), other))


def legacy(value, keys=("0", "1"), data=DATA, tail=b""):
    def dump(v): return b"\x80\x02" + v + b"."
    parts = [dump(b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"), dump(integer(1001)), dump(b"}"), dump(value)]
    parts.append(dump(b"](" + b"".join(map(text, keys)) + b"e"))
    parts += [struct.pack("<q", len(data[k]) // 4) + data[k] for k in keys]
    return b"".join(parts) + tail


def pickled_cases():
    moved = tup(storage("1"), integer(0), sizes([2, 2]), sizes([2, 1]))
    flag = [NONE, FALSE, TRUE, integer(0), integer(1), b"G" + struct.pack(">d", 0.5), text(""), text("x"), b"]", b"}"]
    for fn in ("v1", "v2", "v3"):
        yield f"rebuild {fn}", strided(fn)
    for bit in ("neg", "conj", "other"):
        for i, v in enumerate(flag):
            yield f"metadata {bit} {i}", strided(metadata=mapping((text(bit), v)))
    for i, v in enumerate(flag):
        yield f"metadata itself {i}", strided(metadata=v)
        yield f"hooks {i}", strided(hooks=v)
        yield f"v3 metadata {i}", strided("v3", metadata=mapping((text("neg"), v)))
    yield "hooks of one", strided(hooks=mapping((integer(1), NONE)))
    for name, state in [("storage", moved), ("three", tup(FALSE, FALSE, HOOKS)), ("none", NONE), ("dict", mapping((text("a"), integer(1)))),
                        ("five", tup(OTHER, FALSE, HOOKS, FALSE, FALSE)), ("empty", b")")]:
        yield f"build {name}", PLAIN + state + b"b"
        yield f"build {name} on a parameter", call("torch._utils._rebuild_parameter", PLAIN, FALSE, HOOKS) + state + b"b"
        yield f"build {name} on Parameter", glob("torch.nn.parameter.Parameter") + tup(PLAIN, FALSE) + b"\x81" + state + b"b"
        yield f"build {name} inside", call("torch._utils._rebuild_parameter", PLAIN + state + b"b", FALSE, HOOKS)
    for name, value in [("tag", integer(1)), ("data", OTHER), ("real", integer(5)), ("real", b"G" + struct.pack(">d", 2.5)), ("imag", integer(1)),
                        ("shape", sizes([1])), ("names", NONE), ("__class__", NONE), ("grad", NONE), ("requires_grad", FALSE), ("tag", text("x")), ("tag", OTHER)]:
        state = mapping((text(name), value))
        for form, s in (("dict", state), ("pair", tup(state, NONE)), ("slots", tup(NONE, state))):
            yield f"attribute {name} {form}", call("torch._tensor._rebuild_from_type_v2", glob("torch._utils._rebuild_tensor_v2"), glob("torch.Tensor"),
                tup(storage(), integer(0), sizes([2, 3]), sizes([3, 1]), FALSE, HOOKS), s)
            yield f"parameter attribute {name} {form}", call("torch._utils._rebuild_parameter_with_state", PLAIN, FALSE, HOOKS, s)
    yield "setitem on a tensor", PLAIN + integer(0) + integer(9) + b"s"
    yield "setitems on a tensor", PLAIN + b"(" + integer(0) + integer(9) + b"u"
    yield "append on a tensor", PLAIN + integer(9) + b"a"
    for line in ("3", "03", "010", "0x3", "0b11", "0o3", "+3", "-3", " 3", "3 ", "1_0", "00", "01", "-0", "+0", "3L", "3.0", ""):
        for op in "IL":
            yield f"size {op}{line}", strided(shape=tup(integer(2), op.encode() + line.encode() + b"\n"))
        yield f"offset F{line}", strided(offset=b"F" + line.encode() + b"\n", shape=sizes([1, 3]))
    for n in (2, 3, 4):
        yield f"a column of stride {n}", strided(shape=sizes([2]), stride=sizes([n]), offset=integer(1))
    yield "overlapping rows", strided(shape=sizes([3, 3]), stride=sizes([1, 1]))
    yield "a row again and again", strided(shape=sizes([4, 3]), stride=sizes([0, 1]))
    yield "beyond the end", strided(shape=sizes([3, 3]))
    yield "a scalar", strided(shape=b")", stride=b")", offset=integer(5))
    yield "a list for a size", strided(shape=b"](" + integer(2) + integer(3) + b"e")
    yield "a tuple appended to", strided(shape=b")" + integer(6) + b"a", stride=sizes([1]))
    yield "a list of a list appended to", b"](" + integer(6) + b"eq\x01" + call("builtins.list", b"h\x01") + integer(1) + b"a0" + strided(shape=b"h\x01", stride=sizes([1]))
    yield "untyped storage, v3", strided("v3", kind="Untyped", numel=24)
    yield "another storage type, v3", strided("v3", dtype="int32")
    yield "a meta storage", strided(location="meta")
    yield "a long id", strided(tail=NONE)
    yield "a key as a number", call("torch._utils._rebuild_tensor_v2", tup(text("storage"), glob("torch.FloatStorage"), integer(0), text("cpu"), integer(6)) + b"Q", integer(0), sizes([2, 3]), sizes([3, 1]), FALSE, HOOKS)
    yield "torch.FloatTensor", glob("torch.FloatTensor") + b")\x81" + tup(storage(), integer(0), sizes([2, 3]), sizes([3, 1])) + b"b"
    yield "too many arguments", call("torch._utils._rebuild_tensor_v2", storage(), integer(0), sizes([2, 3]), sizes([3, 1]), FALSE, HOOKS, NONE, NONE)
    yield "too few arguments", call("torch._utils._rebuild_tensor_v2", storage(), integer(0), sizes([2, 3]), sizes([3, 1]))


def whole_cases():
    w, v = PLAIN, OTHER
    yield "a key twice", mapping((text("w"), w), (text("v"), v), (text("w"), v))
    for name, key in [("bytes", b"C\x01w"), ("int", integer(1)), ("tuple", tup(text("w"))), ("bool", TRUE), ("none", NONE), ("surrogate", text("\ud800")),
                      ("latin", b"U\x01\xe9"), ("py2", b"U\x01w"), ("raw", b"Vw\n"), ("escape", b"V\\u0077\n"), ("escaped escape", b"V\\\\u0077\n"), ("pair", b"V\\ud83d\\ude00\n"),
                      ("short escape", b"V\\u77\n"), ("quoted", b"S'w'\n"), ("hex", b"S'\\x77'\n"), ("octal", b"S'\\167'\n"), ("bad hex", b"S'\\x7'\n"), ("trailing", b"S'w\\'\n")]:
        yield f"a key as {name}", mapping((key, w), (text("v"), v))
    ordered = glob("collections.OrderedDict")
    pairs = b"](" + tup(text("w"), w) + tup(text("v"), v) + b"e"
    for fn in ("collections.OrderedDict", "builtins.dict", "collections.Counter"):
        for form, op in (("reduce", b"R"), ("newobj", b"\x81")):
            yield f"{fn} of pairs, {form}", glob(fn) + tup(pairs) + op
            yield f"{fn} of a dict, {form}", glob(fn) + tup(weights(w)) + op
            yield f"{fn} filled, {form}", glob(fn) + b")" + op + b"(" + text("w") + w + text("v") + v + b"u"
    yield "metadata attribute", ordered + b")R(" + text("w") + w + text("v") + v + b"u" + mapping((text("_metadata"), b"}")) + b"b"
    yield "a method overwritten", ordered + b")R(" + text("w") + w + text("v") + v + b"u" + mapping((text("keys"), NONE)) + b"b"
    yield "one tensor twice", w + b"q\x01" + b"0" + mapping((text("w"), b"h\x01"), (text("v"), b"h\x01"))
    yield "a memo overwritten", w + b"q\x010" + v + b"q\x010" + mapping((text("w"), b"h\x01"), (text("v"), v))
    yield "DUP and POP", weights(w) + b"20"


def legacy_cases():
    def view(key, offset, count, of="0"):
        return storage(of, tail=tup(text(key), integer(offset), integer(count)))
    def over(s, n): return call("torch._utils._rebuild_tensor_v2", s, integer(0), sizes([n]), sizes([1]), FALSE, HOOKS)
    plain = lambda key: over(storage(key, tail=NONE), len(DATA[key]) // 4)
    yield "plain", legacy(weights(plain("0"), plain("1")))
    yield "a view", legacy(weights(over(view("x", 2, 3), 3), plain("1")))
    yield "a view twice", legacy(weights(over(view("x", 2, 3), 3), over(view("x", 2, 3), 3)), keys=("0",))
    yield "a view of two meanings", legacy(weights(over(view("x", 0, 3), 3), over(view("x", 3, 3), 3)), keys=("0",))
    yield "a view called as a storage", legacy(mapping((text("w"), plain("0")), (text("v"), over(view("1", 0, 3), 3)), (text("u"), plain("1"))))
    yield "a view called as its storage", legacy(weights(over(view("0", 3, 3), 3), plain("1")))
    yield "a storage called as a view", legacy(mapping((text("v"), over(view("1", 0, 3), 3)), (text("u"), plain("1"))))
    yield "keys twice", legacy(weights(plain("0"), plain("1")), keys=("0", "1", "0"))
    yield "bytes behind", legacy(weights(plain("0"), plain("1")), tail=b"\0" * 9)
    yield "keys in another order", legacy(weights(plain("0"), plain("1")), keys=("1", "0"))
    yield "an id without a view", legacy(weights(PLAIN))


def zip_cases(make, main):
    """`make(**how)` gives the archive; `main` is the name of an entry with data and `evil` stands for what is not meant."""
    evil = make(negated=True)
    plain = make()
    yield "plain", plain
    yield "two in a row", plain + evil
    yield "two in a row, the other way", evil + plain
    yield "an archive in the comment", make(comment=evil[: 65000])
    yield "a comment", make(comment=b"hello")
    yield "a comment with an end", make(comment=b"PK\5\6" + b"\0" * 18)
    yield "bytes behind", plain + b"\0"
    yield "bytes before", b"\0" * 7 + plain
    yield "bytes before, counted", make(prefix=b"PK\3\4" + b"\0" * 30)
    yield "a directory shifted", make(shift=1)
    yield "a directory too short", make(size_off=-1)
    yield "another name in the local header", make(local={main: b"x" * len(main)})
    yield "another name in the directory", make(central={main: b"x" * len(main)})
    yield "another case", make(extra_entries=[(main.upper(), b"\0" * 24)])
    yield "the same name", make(extra_entries=[(main, b"\0" * 24)])
    yield "a NUL in a name", make(extra_entries=[(main + "\0x", b"\0" * 24)])
    yield "a slash before", make(extra_entries=[("/" + main, b"\0" * 24)])
    yield "a backslash", make(extra_entries=[(main.replace("/", "\\") + "\\", b"\0" * 24)])
    yield "encrypted", make(flags=1)
    yield "patched", make(flags=0x20)
    yield "utf-8", make(flags=0x800)
    up = b"\x01" + struct.pack("<I", zlib.crc32(main.encode())) + b"other"
    yield "a second name", make(field=struct.pack("<HH", 0x7075, len(up)) + up)
    yield "a broken extra field", make(field=b"\x01\x00\x09\x00a")
    end = plain[-22:]
    start, size = struct.unpack("<II", end[12:20])[::-1], struct.unpack("<I", end[12:16])[0]
    count, at = struct.unpack("<H", end[10:12])[0], struct.unpack("<I", end[16:20])[0]
    record = b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, count, count, size, at)
    def wide(locator_at=None, record=record, end=end):
        where = len(plain) - 22 if locator_at is None else locator_at
        return plain[:-22] + record + b"PK\6\7" + struct.pack("<IQI", 0, where, 1) + end
    yield "zip64", wide()
    yield "zip64, saturated", wide(end=end[:8] + b"\xff\xff\xff\xff" + b"\xff" * 8 + end[20:])
    yield "a locator elsewhere", wide(locator_at=0)
    yield "a zip64 record that disagrees", wide(record=b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, count - 1, count - 1, size, at))
    yield "a zip64 record of another directory", wide(record=b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 0, 0, 0, len(plain) - 22))
    for name in sorted(rng.sample(range(30, len(plain) - 22), 60)):
        broken = bytearray(plain); broken[name] ^= rng.choice([1, 2, 4, 8, 16, 32, 64, 128])
        yield f"a bit of byte {name}", bytes(broken)


def pth_archive(negated=False, extra_entries=(), **how):
    data = {k: bytes(b ^ (0x80 if i % 4 == 3 else 0) for i, b in enumerate(v)) for k, v in DATA.items()} if negated else DATA
    return checkpoint(weights(PLAIN), extra=extra_entries, data=data, **how)


def npy(array=None, header=None, version=(1, 0), raw=None, pad=True):
    array = np.frombuffer(DATA["0"], "<f4").reshape(2, 3) if array is None else array
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }" if header is None else header
    literal = header.encode("utf-8" if version[0] == 3 else "latin1", "replace")
    wide = version[0] >= 2
    used = 10 + 2 * wide + len(literal) + 1
    literal += (b" " * (-used % 64) + b"\n") if pad else b""
    return b"\x93NUMPY" + bytes(version) + struct.pack("<I" if wide else "<H", len(literal)) + literal + (array.tobytes() if raw is None else raw)


def npz_archive(negated=False, extra_entries=(), **how):
    array = np.frombuffer(DATA["0"], "<f4").reshape(2, 3)
    return archive([("w.npy", npy(-array if negated else array)), ("v.npy", npy()), *extra_entries], **how)


def npy_cases():
    d, f, s = "'descr': '<f4'", "'fortran_order': False", "'shape': (2, 3)"
    for order in ([d, f, s], [s, f, d], [f, s, d]):
        yield "order " + order[0], npy(header="{" + ", ".join(order) + "}")
    for name, header in {
        "a key twice": f"{{{d}, {f}, {s}, 'shape': (3, 2), }}", "descr twice": f"{{'descr': '<i4', {d}, {f}, {s}}}", "a key more": f"{{{d}, {f}, {s}, 'x': 1}}",
        "a key less": f"{{{d}, {s}}}", "double quotes": f'{{"descr": "<f4", "fortran_order": False, "shape": (2, 3)}}', "no spaces": "{'descr':'<f4','fortran_order':False,'shape':(2,3)}",
        "tabs": f"{{\t{d},\t{f}, {s}}}", "a line break": f"{{{d},\n{f}, {s}}}", "spaces before": f"  {{{d}, {f}, {s}}}", "a comment": f"{{{d}, {f}, {s}}} # {{}}", "a tuple after": f"{{{d}, {f}, {s}}},",
        "an escaped key": f"{{'\\x64escr': '<i4', {d}, {f}, {s}}}", "an escaped string": f"{{'descr': '\\x3ci4', {f}, {s}}}", "a joined string": f"{{'descr': '<' 'f4', {f}, {s}}}", "a bytes key": f"{{b'descr': '<f4', {f}, {s}}}",
        "a unicode key": f"{{u'descr': '<f4', {f}, {s}}}", "a raw key": f"{{r'descr': '<f4', {f}, {s}}}", "long sizes": f"{{{d}, {f}, 'shape': (2L, 3L)}}", "an L in a string": f"{{'descr': '<f4L', {f}, {s}}}",
        "octal": f"{{{d}, {f}, 'shape': (0o2, 3)}}", "hexadecimal": f"{{{d}, {f}, 'shape': (0x2, 3)}}", "underscores": f"{{{d}, {f}, 'shape': (2, 0_3)}}", "a leading zero": f"{{{d}, {f}, 'shape': (02, 3)}}",
        "a sum": f"{{{d}, {f}, 'shape': (1+1, 3)}}", "a list": f"{{{d}, {f}, 'shape': [2, 3]}}", "a number": f"{{{d}, {f}, 'shape': (6)}}", "one size": f"{{{d}, {f}, 'shape': (6,)}}", "no comma": f"{{{d}, {f}, 'shape': (6 )}}",
        "a bool size": f"{{{d}, {f}, 'shape': (True, 6)}}", "a float size": f"{{{d}, {f}, 'shape': (2.0, 3)}}", "a negative size": f"{{{d}, {f}, 'shape': (-2, -3)}}", "an empty tuple": f"{{{d}, {f}, 'shape': ()}}",
        "Fortran": f"{{{d}, 'fortran_order': True, {s}}}", "order 1": f"{{{d}, 'fortran_order': 1, {s}}}", "order 0": f"{{{d}, 'fortran_order': 0, {s}}}", "order None": f"{{{d}, 'fortran_order': None, {s}}}",
        "two dicts": f"{{{d}, {f}, {s}}}{{{d}}}", "a set": "{'descr', 'fortran_order', 'shape'}", "a triple string": f"{{'descr': '''<f4''', {f}, {s}}}", "fewer elements": f"{{{d}, {f}, 'shape': (2, 2)}}", "more elements": f"{{{d}, {f}, 'shape': (2, 4)}}",
        "an empty array": f"{{{d}, {f}, 'shape': (0, 3)}}",
    }.items():
        for version in ((1, 0), (2, 0), (3, 0)):
            yield f"{name}, version {version[0]}", npy(header=header, version=version)
    for descr in ("f4", "=f4", "|f4", ">f4", "<f", "float32", "<i4", "<u4", "|u1", "|i1", "?", "|b1", "<f2", "<c8", "|O", "<U6", "<f4,<f4", "V4", "(2,)<f4", "<f4 ", " <f4", "single"):
        raw = DATA["0"] if "b1" not in descr and "?" != descr else b"\0\1\2\0\1\xff"
        yield f"descr {descr}", npy(header=f"{{'descr': '{descr}', {f}, {s}}}", raw=raw[:6] if "1" in descr or descr == "?" else raw)
    for version in ((0, 0), (1, 1), (2, 1), (3, 1), (4, 0), (255, 0)):
        yield f"version {version}", npy(version=version)
    yield "no line break", npy(pad=False)
    yield "bytes behind", npy() + b"\0" * 4


def safetensors_cases():
    w = '"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}'
    def f(header, data=DATA["0"], length=None):
        raw = header.encode("utf-8", "surrogatepass")
        return struct.pack("<Q", len(raw) if length is None else length) + raw + data
    yield "plain", f("{" + w + "}")
    for name, header in {
        "space before": " {" + w + "}", "space after": "{" + w + "} \n\t", "NUL after": "{" + w + "}\0", "text after": "{" + w + "}x", "space inside": "{ " + w.replace(":", " : ") + " }", "a key twice": "{" + w + "," + w + "}",
        "a field twice": w.join("{}").replace('"shape":[2,3]', '"shape":[3,2],"shape":[2,3]'), "an escaped key twice": "{" + w + "," + w.replace('"w"', '"\\u0077"') + "}", "a field more": w.join("{}").replace("[0,24]", '[0,24],"x":1'),
        "a field less": '{"w":{"dtype":"F32","shape":[2,3]}}', "an exponent": w.join("{}").replace("24", "24e0"), "a float": w.join("{}").replace("24", "24.0"), "a leading zero": w.join("{}").replace("[2,", "[02,"), "a minus zero": w.join("{}").replace("[0,", "[-0,"),
        "a trailing comma": "{" + w + ",}", "a comment": "{" + w + "/**/}", "metadata": '{"__metadata__":{"a":"b"},' + w + "}", "metadata twice": '{"__metadata__":{"a":"b"},"__metadata__":{"a":"c"},' + w + "}", "a metadata key twice": '{"__metadata__":{"a":"b","a":"c"},' + w + "}",
        "metadata of numbers": '{"__metadata__":{"a":1},' + w + "}", "metadata null": '{"__metadata__":null,' + w + "}", "a lone surrogate": w.join("{}").replace('"w"', '"\\ud800"'), "raw surrogate": w.join("{}").replace('"w"', '"\ud800"'), "small letters": w.join("{}").replace("F32", "f32"),
        "an overlap": "{" + w + ',"v":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', "a hole": w.join("{}").replace("[2,3]", "[4]").replace("[0,24]", "[8,24]"), "an array": "[" + w + "]", "a byte order mark": "\ufeff{" + w + "}", "empty": "{}",
        "a list of offsets too long": w.join("{}").replace("[0,24]", "[0,24,24]"), "big numbers": w.join("{}").replace("[2,3]", "[9223372036854775808,2]"), "fields as a list": '{"w":["F32",[2,3],[0,24]]}', "an empty tensor": "{" + w + ',"v":{"dtype":"F32","shape":[0],"data_offsets":[24,24]}}',
        "an empty tensor inside": "{" + w + ',"v":{"dtype":"F32","shape":[0],"data_offsets":[8,8]}}', "other types": w.join("{}").replace("F32", "I32"), "a nan": w.join("{}").replace("24", "NaN"),
    }.items():
        yield name, f(header)
    yield "a longer length", f("{" + w + "}", length=10**7)
    yield "bytes behind", f("{" + w + "}", data=DATA["0"] + b"\0")
    yield "fewer bytes", f("{" + w + "}", data=DATA["0"][:-1])


def array_cases():
    a = np.frombuffer(DATA["0"], "<f4").reshape(2, 3)
    cube = np.arange(24, dtype="<f4").reshape(2, 3, 4)
    arrays = {"C": a, "F": np.asfortranarray(a), "T": a.T, "permuted": cube.transpose(2, 0, 1), "another": cube.transpose(1, 2, 0), "strided": cube[:, ::2], "big": a.astype(">f4"), "0-d": np.array(3.5, "<f4"), "scalar": np.float32(2), "bool": a > 0, "int": a.astype("<i8")}
    for name, array in arrays.items():
        for protocol in range(2, 6):
            yield f"{name}, protocol {protocol}", pickle.dumps({"w": array, "v": a}, protocol=protocol)


def plain(value):
    if isinstance(value, torch.Tensor): value = value.detach().resolve_neg().resolve_conj().numpy() if value.device.type == "cpu" else None
    if value is None: raise ValueError("no data")
    value = np.ascontiguousarray(value).reshape(np.shape(value))
    if value.dtype == bool: value = value.view("u1") != 0
    return [str(value.dtype.newbyteorder("=")), list(value.shape), value.astype(value.dtype.newbyteorder("<")).tobytes().hex()]


def loaded(kind, data):
    if kind == "pth":
        with tempfile.NamedTemporaryFile() as file:
            file.write(data); file.flush()
            value = torch.load(file.name, weights_only=False)
    elif kind == "pkl":
        value = pickle.loads(data)
    elif kind == "npz":
        archive = np.load(io.BytesIO(data), allow_pickle=False)
        value = {k: archive[k] for k in archive.files}
        value = {k: v for k, v in value.items() if isinstance(v, np.ndarray)}
    elif kind == "npy":
        value = {"w": np.load(io.BytesIO(data), allow_pickle=False)}
    else:
        value = safetensors.numpy.load(data)
    return {k: plain(v) for k, v in value.items() if isinstance(k, str) and not isinstance(v, (int, str))}


def main(path):
    groups = [
        ("pth", "tensor", ((n, checkpoint(weights(v))) for n, v in pickled_cases())),
        ("pth", "dict", ((n, checkpoint(v)) for n, v in whole_cases())),
        ("pth", "big-endian", [(n, checkpoint(weights(v), extra=[("a/byteorder", o)])) for o in (b"big", b"little", b"Little", b"little\n", b"")
            for n, v in [(f"plain {o}", PLAIN), (f"untyped {o}", strided("v3", kind="Untyped", numel=24)), (f"int32 {o}", strided("v3", dtype="int32"))]]),
        ("pth", "legacy", legacy_cases()),
        ("pth", "zip", zip_cases(pth_archive, "a/data/0")),
        ("pth", "folder", [("another first", archive([("b/x", b""), ("a/data.pkl", b"\x80\x02" + weights(PLAIN) + b"."), ("a/data/0", DATA["0"]), ("a/data/1", DATA["1"]), ("a/version", b"3\n")]))]),
        ("npz", "zip", zip_cases(npz_archive, "w.npy")),
        ("npz", "members", [(n, npz_archive(extra_entries=[(n, d)])) for n, d in (("w", b"abc"), ("w", npy(raw=DATA["0"][::-1])), ("w.npy.npy", npy(raw=DATA["0"][::-1])), ("readme.txt", b"abc"), ("x.npy", b"abc"), ("d/w.npy", npy()))]),
        ("npz", "header", ((n, archive([("w.npy", d)])) for n, d in npy_cases())),
        ("safetensors", "header", safetensors_cases()),
        ("pkl", "array", array_cases()),
    ]
    cases = []
    for kind, group, files in groups:
        for name, data in files:
            try:
                expected = loaded(kind, data)
            except Exception:
                expected = None
            cases.append({"kind": kind, "name": f"{group}: {name}", "file": base64.b64encode(data).decode(), "expected": expected})
    text = json.dumps({"madeBy": f"torch {torch.__version__}, numpy {np.__version__}, safetensors {safetensors.__version__}, Python {sys.version.split()[0]}", "cases": cases})
    with open(path, "wb") as out, gzip.GzipFile("", "wb", 9, out, 0) as packed:
        packed.write(text.encode())
    print(len(cases), "files,", sum(c["expected"] is None for c in cases), "of which raise")


main(sys.argv[1])
