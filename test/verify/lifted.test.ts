import { expect, it } from "vitest";
import { liftCheckpoint } from "../../src/convert/open/lift.js";
import { openModel } from "../../src/convert/open/open-file.js";
import { openVerification } from "../../src/verify/open.js";
import { verify, verifyLifted } from "../../src/verify/verify.js";
import { anonymous, takingPixels } from "../convert/import/graphs.js";
import { tinyCheckpoint } from "../mutation/families.js";
import { convert, rewriteOnnx, SMALL } from "../support/osnet.js";

it("a model that takes pixels in the order of OpenCV is compared with its weights as it takes them", async () => {
  const bytes = rewriteOnnx(convert(tinyCheckpoint("block")), (model) => takingPixels(anonymous(model)));
  const file = { name: "bgr.onnx", bytes };
  const checkpoint = liftCheckpoint(openModel("onnx", file));
  expect(await verifyLifted({ ...file, checkpoint })).toMatchObject({ passed: true });
  const plain = { name: "m.onnx", bytes: convert(tinyCheckpoint("block")) };
  expect(await verify(await openVerification(plain, file, { size: SMALL }))).toMatchObject({ passed: true });
});
