"""The yardstick for `osnet-convert pth2onnx`: the same conversion by torch.onnx.export, as a whole process.

    python bench/torch_export.py CHECKPOINT OUT.onnx [osnet_x1_0]

Needs torch, onnx and torchreid (its `models` folder is enough). Legacy exporter, opset 17, dynamic batch.
"""
import sys

import torch
from torchreid import models

checkpoint, out = sys.argv[1:3]
variant = sys.argv[3] if len(sys.argv) > 3 else "osnet_x1_0"
state = torch.load(checkpoint, map_location="cpu", weights_only=True)
state = {key.removeprefix("module."): value for key, value in state.get("state_dict", state).items()}
model = models.build_model(variant, num_classes=state["classifier.weight"].shape[0], pretrained=False)
model.load_state_dict(state)
torch.onnx.export(
    model.eval(),
    torch.zeros(1, 3, 256, 128),
    out,
    dynamo=False,
    opset_version=17,
    input_names=["images"],
    output_names=["features"],
    dynamic_axes={"images": {0: "batch"}, "features": {0: "batch"}},
)
