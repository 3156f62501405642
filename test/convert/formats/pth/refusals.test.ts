import { describe, expect, it } from "vitest";
import { bytesOf, call, checkpoint, dict, int, le, pickle, refusal, str, tensor, zip } from "./build.js";

const OTHER = "use a checkpoint, or an ONNX or TensorFlow.js model";
const KERAS = "export the model to ONNX with tf2onnx, or to TensorFlow.js with tensorflowjs_converter";

/** Files given by mistake, and the end of the sentence that says what they are. */
const IMPOSTORS: readonly (readonly [name: string, bytes: string, found: string, remedy: string])[] = [
  ["nothing", "", "an empty file", "download or copy the file again"],
  [
    "a Git LFS pointer",
    "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n",
    "a Git LFS pointer",
    "run git lfs pull where the file came from",
  ],
  [
    "a web page",
    "<!DOCTYPE html><html>",
    "an HTML page",
    "download the file itself, not the page that offers it",
  ],
  [
    "a web page after a comment",
    "\n<!-- x -->\n<html>",
    "an HTML page",
    "download the file itself, not the page that offers it",
  ],
  ["XML", '<?xml version="1.0"?><Error/>', "an XML document", "download the file itself"],
  ["JSON", '{"error": "quota exceeded"}', "a JSON document", "download the checkpoint itself"],
  [
    "text",
    "Too many users have viewed or downloaded this file recently\n",
    "a text file",
    "download the checkpoint itself",
  ],
  ["safetensors", `${le(2, 8)}{}`, "a safetensors file", "convert it as safetensors"],
  [
    "safetensors, header of 640 bytes",
    `${le(0x280, 8)}{"w"`,
    "a safetensors file",
    "convert it as safetensors",
  ],
  ["gzip", "\x1f\x8b\x08\x00", "a gzip file", "unpack it first, with gunzip or tar xzf"],
  ["7z", "7z\xbc\xaf\x27\x1c", "a compressed archive", "unpack it first"],
  ["HDF5", "\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes it", KERAS],
  ["npy", "\x93NUMPY\x01\x00", "a NumPy .npy array", OTHER],
  ["GGUF", "GGUF\x03\x00\x00\x00", "a GGUF file", OTHER],
  [
    "TensorFlow Lite",
    "\x1c\x00\x00\x00TFL3",
    "a TensorFlow Lite model",
    "export the model to ONNX with tf2onnx",
  ],
  ["PNG", "\x89PNG\r\n\x1a\n", "an image", OTHER],
  ["ONNX", "\x08\x07\x12\x07pytorch", "an ONNX model", "use the checkpoint it was exported from"],
  ["noise", "\x00\x01\x02\x03", "an unknown file format", "use a file written by torch.save"],
];

describe("refusals", () => {
  it.each(IMPOSTORS)("say what %s is", (_, bytes, found, remedy) => {
    expect(refusal(bytesOf(bytes))).toBe(
      `weights.pth: found ${found}, expected a PyTorch checkpoint; ${remedy}.`,
    );
  });

  it("say what is in an archive that is no checkpoint", () => {
    expect(refusal(zip([{ name: "w.npy", data: "" }]))).toBe(
      "weights.pth: found a NumPy .npz archive, expected a PyTorch archive, which has data.pkl; " +
        "convert it as npz.",
    );
    expect(refusal(zip([{ name: "a/weights.pth", data: "" }]))).toContain(
      'found a zip archive of other files ("a/weights.pth"), expected a PyTorch archive, which has data.pkl; unpack it,',
    );
    expect(refusal(zip(["a", "b"].map((name) => ({ name: `${name}/data.pkl`, data: "" }))))).toContain(
      "found 2 checkpoints in one zip archive, expected one",
    );
    expect(refusal(bytesOf(new Uint8Array(257), "ustar"))).toContain("found a tar archive of other files");
  });

  it("describe a checkpoint without weights", () => {
    const remedy = "expected a state dict; save the weights with torch.save(model.state_dict(), path).";
    expect(refusal(checkpoint(dict({ epoch: int(3), arch: str("osnet_x1_0") })))).toBe(
      `weights.pth: found a dict of "epoch", "arch" without tensors, ${remedy}`,
    );
    expect(refusal(checkpoint(tensor()))).toBe(`weights.pth: found one tensor without a name, ${remedy}`);
    expect(refusal(checkpoint(int(3)))).toBe(
      `weights.pth: found a value of type int without tensors, ${remedy}`,
    );
    expect(refusal(bytesOf(pickle(call("pathlib.PosixPath", str("/")))))).toBe(
      `weights.pth: found a value of type pathlib.PosixPath without tensors, ${remedy}`,
    );
  });

  it("say that a key leads nowhere, and what there is", () => {
    const file = checkpoint(dict({ state_dict: dict({ w: tensor() }), epoch: int(3) }), {
      0: new Uint8Array(8),
    });
    expect(refusal(file, "model")).toBe(
      "--key model: found no tensors at that path in weights.pth, expected the path of a state dict; " +
        'omit --key, or choose a path below "state_dict", "epoch".',
    );
  });

  it("never print what a file wants printed", () => {
    const message = refusal(checkpoint(dict({ w: tensor({ key: `\x1b[31m\n${"x".repeat(500)}` }) })));
    expect(message).toContain('found no entry "data/?[31m?xxxx');
    expect(message.length).toBeLessThan(250);
  });
});
