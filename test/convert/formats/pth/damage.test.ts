import { describe, expect, it } from "vitest";
import {
  bytesOf,
  call,
  checkpoint,
  dict,
  floats,
  global,
  int,
  le,
  legacy,
  pickle,
  refusal,
  str,
  tensor,
  zip,
} from "./build.js";

const data = floats(1, 2);
const MAGIC = "\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
const weights = (value: string): Uint8Array => checkpoint(dict({ w: value }), { 0: data });
const array = (dtype: string): string =>
  `${call("numpy.core.multiarray._reconstruct", global("numpy.ndarray"), "K\x00\x85", "C\x01b")}(K\x01K\x02\x85${dtype}\x89C\x08${"\0".repeat(8)}tb`;

/** The directory of a whole archive, lied about. */
function lied(at: (bytes: Buffer) => number, text: string): Uint8Array {
  const bytes = Buffer.from(checkpoint(dict({ w: tensor() }), { 0: data }));
  bytes.write(text, at(bytes), "latin1");
  return new Uint8Array(bytes);
}

describe("a damaged checkpoint is refused in a sentence of its own", () => {
  it.each([
    [
      "a storage without data",
      checkpoint(dict({ w: tensor() })),
      'found no entry "data/0", expected one for each storage; download or copy the file again.',
    ],
    [
      "an unknown byte order",
      checkpoint(dict({ w: tensor() }), { 0: data }, { byteorder: "middle" }),
      'found the byte order "middle", expected little or big; download or copy the file again.',
    ],
    [
      "a persistent id that is a number",
      checkpoint(`${int(1)}Q`),
      "found a persistent id of type int in archive/data.pkl, expected a storage; download or copy the file again.",
    ],
    [
      "another version of the legacy format",
      bytesOf(pickle(MAGIC), pickle(int(1000))),
      "found another version of the legacy format, expected version 1001; save the weights alone, with torch.save(model.state_dict(), path).",
    ],
    [
      "a legacy file without a list of storages",
      bytesOf(pickle(MAGIC), pickle(int(1001)), pickle("}"), pickle("}"), pickle(int(1))),
      "found no list of storages before byte 39 of the file, expected a complete file; download or copy the file again.",
    ],
    [
      "a legacy storage that nobody wants",
      legacy("}", { 0: data }),
      'found data for the unused storage "0", expected data for used storages only; download or copy the file again.',
    ],
    [
      "a storage's file that holds a number",
      weights(call("torch.storage._load_from_bytes", `B${le(pickle(int(1)).length, 4)}${pickle(int(1))}`)),
      "found a pickled storage of type int, expected a storage; download or copy the file again.",
    ],
    [
      "a class named by numbers",
      weights("K\x01K\x02\x93"),
      "found a class without a name before byte 15 of archive/data.pkl, expected a module and a name as text; download or copy the file again.",
    ],
    [
      "an array without a dtype",
      weights(array(str("f4"))),
      'found a numpy array without a dtype that numpy writes under "w", expected dense tensors of a type used for training; save the weights again with torch.save(model.state_dict(), path).',
    ],
    [
      "an array of complex numbers",
      weights(array(call("numpy.dtype", str("c8"), "\x89", "\x88"))),
      'found numpy elements of type c8 under "w", expected dense tensors of a type used for training; save the weights again with torch.save(model.state_dict(), path).',
    ],
    [
      "a parameter of nothing",
      weights(call("torch._utils._rebuild_parameter", "N", "\x89", "N")),
      'found a value of type None under "w", expected dense tensors of a type used for training; save the weights again with torch.save(model.state_dict(), path).',
    ],
    [
      "a tensor over nothing",
      weights(call("torch._utils._rebuild_tensor_v2", "N", int(0), ")", ")", "\x89", "N")),
      'found a tensor whose storage is a value of type None under "w", expected dense tensors of a type used for training; save the weights again with torch.save(model.state_dict(), path).',
    ],
    [
      "a directory that begins too early",
      lied((bytes) => bytes.indexOf("PK\x01\x02", 0, "latin1"), "XX"),
      "found no zip directory entry at byte 221, expected as many as the archive declares; download or copy the file again.",
    ],
    [
      "an entry whose name is no text",
      zip([
        { name: "archive/data.pkl", data: pickle("}") },
        {
          name: "archive/\xff",
          data: "",
        },
      ]),
      "found a zip entry name that is not UTF-8 at byte 151, expected UTF-8; download or copy the file again.",
    ],
  ])("%s", (_, bytes, message) => {
    expect(refusal(bytes)).toBe(`weights.pth: ${message}`);
  });
});
