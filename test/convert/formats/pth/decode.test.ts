import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { type DecodedCheckpoint, decodePth } from "../../../../src/convert/formats/pth/decode.js";
import type { StateDict } from "../../../../src/core/tensor.js";
import { missing, readFixture } from "../../../fixtures.js";

/** What torch.load read from each file: a hash over every key, dtype, shape and byte, in order. */
interface Expected extends Partial<Omit<DecodedCheckpoint, "stateDict" | "notes" | "wrappers">> {
  readonly digest: string;
  /** Classes of the modules around the network. */
  readonly wrappers?: readonly string[];
}

const PLAIN = "63998869bd485428";

const FILES: Readonly<Record<string, Expected>> = {
  "osnet_x0_25.pth": { digest: PLAIN, container: "zip" },
  "osnet_ain_x0_25.pth": { digest: "f07d95bba4f71db1", container: "zip" },
  "osnet_attr_max_x0_25.pth": { digest: "1e1da44940114003", container: "zip" },
  "osnet_ibn_x0_25.pth": { digest: "2919a389dd92054e", container: "zip" },
  "osnet_nas_x0_25.pth": { digest: "55cee3bf848fef9b", container: "zip" },
  "osnet_x0_25_fd128.pth": { digest: "6e3256b96150f62c", container: "zip" },
  "osnet_x0_25_nofc.pth": { digest: "81e5119063774116", container: "zip" },
  "real/osnet_x0_25_msmt17.pth": { digest: "5b8c464bab3e4126", container: "legacy" },
  "encodings/bfloat16.pth": { digest: "fd171874df16cd3e", container: "zip" },
  "encodings/checkpoint.pth.tar": { digest: PLAIN, container: "zip", wrapperPath: "state_dict" },
  "encodings/checkpoint_legacy.pth.tar-60": { digest: PLAIN, container: "legacy", wrapperPath: "state_dict" },
  "encodings/dataparallel.pth": { digest: PLAIN, container: "zip", removedPrefix: "module." },
  "encodings/double.pth": { digest: "b3631437d23fd6a7", container: "zip" },
  "encodings/half.pth": { digest: "aa7716904a568ac5", container: "zip" },
  "encodings/legacy.pth": { digest: PLAIN, container: "legacy" },
  "encodings/legacy_protocol4.pth": { digest: PLAIN, container: "legacy" },
  "encodings/nested_backbone_prefix.pth": {
    digest: "f154de68b89594d8",
    container: "zip",
    wrapperPath: "model",
    removedPrefix: "backbone.",
  },
  "encodings/no_classifier.pth": { digest: "f154de68b89594d8", container: "zip" },
  "encodings/no_num_batches_tracked.pth": { digest: "556bfccbf37ee006", container: "zip" },
  "encodings/numpy_dict.pkl": { digest: PLAIN, container: "pickle" },
  "encodings/parameters.pth": { digest: PLAIN, container: "zip" },
  "encodings/shared_storage_views.pth": { digest: PLAIN, container: "zip" },
  "encodings/strided_channels_last.pth": { digest: PLAIN, container: "zip" },
  "encodings/torchscript.pt": {
    digest: PLAIN,
    container: "torchscript",
    modelClass: "__torch__.osnet.OSNet",
  },
  "encodings/whole_model.pt": { digest: PLAIN, container: "zip", modelClass: "osnet.OSNet" },
  "encodings/whole_model_dataparallel_legacy.pt": {
    digest: PLAIN,
    container: "legacy",
    removedPrefix: "module.",
    modelClass: "torch.nn.parallel.data_parallel.DataParallel",
    wrappers: ["torch.nn.parallel.data_parallel.DataParallel"],
  },
  "encodings/zip_protocol5.pth": { digest: PLAIN, container: "zip" },
};

describe("decodePth", () => {
  for (const [name, { digest, ...expected }] of Object.entries(FILES)) {
    const reason = missing(name);
    it.skipIf(reason)(`reads ${name} as torch.load does${reason ? ` (${reason})` : ""}`, () => {
      const { stateDict, notes, modules, trace, wrappers, ...rest } = decodePth(readFixture(name), {
        subject: name,
      });
      expect({
        ...rest,
        ...(wrappers ? { wrappers: wrappers.map(({ className }) => className) } : {}),
      }).toEqual({ wrapperPath: "", removedPrefix: "", modelClass: "", ...expected });
      expect(digestOf(stateDict)).toBe(digest);
    });
  }

  it("shares the file's bytes when the weights are most of it", () => {
    const bytes = new Uint8Array(readFixture("osnet_x0_25.pth"));
    const { stateDict } = decodePth(bytes, { subject: "osnet_x0_25.pth" });
    expect([...stateDict.values()].every(({ data }) => data.buffer === bytes.buffer)).toBe(true);
  });
});

function digestOf(stateDict: StateDict): string {
  const hash = createHash("sha256");
  for (const [key, { dtype, shape, data }] of stateDict) {
    hash.update(`${key}|${dtype}|${shape.join(",")}|`);
    hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  return hash.digest("hex").slice(0, 16);
}
