import { expect, it } from "vitest";
import { liftCheckpoint } from "../../src/convert/open/lift.js";
import { openModel } from "../../src/convert/open/open-file.js";
import { verifyLifted } from "../../src/verify/verify.js";
import { anonymous, takingPixels } from "../convert/import/graphs.js";
import { tinyCheckpoint } from "../mutation/families.js";
import { convert, rewriteOnnx } from "../support/osnet.js";

it("a model that takes pixels in the order of OpenCV is compared with its weights as it takes them", async () => {
  const bytes = rewriteOnnx(convert(tinyCheckpoint("block")), (model) => takingPixels(anonymous(model)));
  const file = { name: "bgr.onnx", bytes };
  const checkpoint = liftCheckpoint(openModel("onnx", file));
  expect(await verifyLifted({ ...file, checkpoint })).toMatchObject({ passed: true });
});
