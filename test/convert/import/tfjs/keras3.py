"""Writes fixtures/osnet_x0_25.keras3.json.gz: model.json of osnet_x0_25 as a user of Keras 3 would have built it.

Needs keras 3 with any of its backends, h5py, torch and tensorflowjs 4.22 (`pip install --no-deps tensorflowjs`: of it
only the converter of .keras files is used); `npm test` does not. Run from the repository:
python test/convert/import/tfjs/keras3.py, and put the sha256 that it prints into fixtures/manifest.json.

Weights are fixtures/osnet_x0_25.pth's. `parameters` names them in the order of the weight file that tensorflowjs wrote,
as their bytes tell, so that the test can lay that file out again; it must have the digest `weightsSha256`.
"""

import gzip
import hashlib
import importlib.util
import json
import sys
import tempfile
import types
import zipfile
from pathlib import Path

import h5py
import keras
import torch
from keras import layers

CHECKPOINT = "fixtures/osnet_x0_25.pth"
OUT = "fixtures/osnet_x0_25.keras3.json.gz"
CHANNELS, REDUCTION, STREAMS, FEATURES = [16, 64, 96, 128], 4, 4, 512

state = {key: value.numpy() for key, value in torch.load(CHECKPOINT, weights_only=True).items()}
filled, origins = [], {}


def named(path):
    return path.replace(".", "_")


def parameter(path, *order):
    """A weight with its axes in TensorFlow's order."""
    weight = state[path].transpose(order) if order else state[path]
    origins[weight.tobytes()] = path
    return weight


def weights_of(layer, *arrays):
    filled.append((layer, arrays))
    return layer


def conv(x, path, depthwise=False, stride=1, pad=0, bias=False):
    weight = state[f"{path}.weight"]
    if pad and stride > 1:
        x, padding = layers.ZeroPadding2D(pad)(x), "valid"
    else:
        padding = "same" if pad else "valid"
    shared = dict(kernel_size=weight.shape[2:], strides=stride, padding=padding, use_bias=bias, name=named(path))
    layer = layers.DepthwiseConv2D(**shared) if depthwise else layers.Conv2D(weight.shape[0], **shared)
    kernel = parameter(f"{path}.weight", 2, 3, *((0, 1) if depthwise else (1, 0)))
    weights_of(layer, kernel, *([parameter(f"{path}.bias")] if bias else []))
    return layer(x)


def norm(x, path):
    roles = ("weight", "bias", "running_mean", "running_var")
    layer = layers.BatchNormalization(epsilon=1e-5, name=named(path))
    return weights_of(layer, *[parameter(f"{path}.{role}") for role in roles])(x)


def relu(x):
    return layers.ReLU()(x)


def conv_norm(x, path, **options):
    return norm(conv(x, f"{path}.conv", **options), f"{path}.bn")


def light(x, path):
    x = conv(conv(x, f"{path}.conv1"), f"{path}.conv2", depthwise=True, pad=1)
    return relu(norm(x, f"{path}.bn"))


def gate(path, channels):
    """The layers that all streams share."""
    squeeze = layers.GlobalAveragePooling2D(keepdims=True, name=named(f"{path}.global_avgpool"))
    inner = []
    for name, units, activation in (("fc1", channels // 16, "relu"), ("fc2", channels, "sigmoid")):
        layer = layers.Conv2D(units, 1, activation=activation, name=named(f"{path}.{name}"))
        kernel = parameter(f"{path}.{name}.weight", 2, 3, 1, 0)
        inner.append(weights_of(layer, kernel, parameter(f"{path}.{name}.bias")))

    def apply(x):
        y = squeeze(x)
        for layer in inner:
            y = layer(y)
        return layers.Multiply()([x, y])

    return apply


def block(x, path, outputs):
    middle = outputs // REDUCTION
    shortcut = x
    x = relu(conv_norm(x, f"{path}.conv1"))
    gated, parts = gate(f"{path}.gate", middle), []
    for stream, letter in enumerate("abcd"[:STREAMS]):
        y = x
        for depth in range(stream + 1):
            y = light(y, f"{path}.conv2{letter}" + (f".{depth}" if stream else ""))
        parts.append(gated(y))
    x = conv_norm(layers.Add()(parts), f"{path}.conv3")
    if f"{path}.downsample.conv.weight" in state:
        shortcut = conv_norm(shortcut, f"{path}.downsample")
    return relu(layers.Add()([x, shortcut]))


def network(height, width):
    images = keras.Input((height, width, 3), name="images")
    x = relu(conv_norm(images, "conv1", stride=2, pad=3))
    x = layers.MaxPooling2D(3, strides=2)(layers.ZeroPadding2D(1)(x))
    for stage, outputs in enumerate(CHANNELS[1:], start=2):
        for index in range(2):
            x = block(x, f"conv{stage}.{index}", outputs)
        if stage < 4:
            x = layers.AveragePooling2D(2)(relu(conv_norm(x, f"conv{stage}.2.0")))
    x = layers.GlobalAveragePooling2D()(relu(conv_norm(x, "conv5")))
    dense = layers.Dense(FEATURES, name="fc_0")
    x = weights_of(dense, parameter("fc.0.weight", 1, 0), parameter("fc.0.bias"))(x)
    return keras.Model(images, relu(norm(x, "fc.1")), name="reid")


def converter():
    """tensorflowjs without its __init__, which wants all of TensorFlow, JAX and more."""
    for name in ("tensorflowjs", "tensorflowjs.converters"):
        package = types.ModuleType(name)
        package.__path__ = list(importlib.util.find_spec(name).submodule_search_locations)
        sys.modules[name] = package
    from tensorflowjs.converters import keras_h5_conversion

    return keras_h5_conversion


model = network(64, 32)
for layer, arrays in filled:
    layer.set_weights(arrays)

conversion = converter()
with tempfile.TemporaryDirectory() as folder:
    saved, out = Path(folder, "model.keras"), Path(folder, "out")
    out.mkdir()
    model.save(saved)
    with zipfile.ZipFile(saved) as archive:
        archive.extractall(folder)
    metadata, config = (json.loads(Path(folder, name).read_text()) for name in ("metadata.json", "config.json"))
    metadata.pop("date_saved", None)
    with h5py.File(Path(folder, "model.weights.h5")) as file:
        topology, groups = conversion.h5_v3_merged_saved_model_to_tfjs_format(file, metadata, config)
    conversion.write_artifacts(topology, groups, str(out))
    document = json.loads((out / "model.json").read_text())
    shards = [(out / path).read_bytes() for group in document["weightsManifest"] for path in group["paths"]]

# Keras numbers policies that layers share by their addresses.
policies = {}


def renumber(value):
    if isinstance(value, list):
        return [renumber(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: policies.setdefault(item, len(policies)) if key == "shared_object_id" else renumber(item)
        for key, item in value.items()
    }


document = renumber(document)
document["parameters"] = [origins[weight["data"].tobytes()] for group in groups for weight in group]
document["weightsSha256"] = hashlib.sha256(b"".join(shards)).hexdigest()
packed = gzip.compress(json.dumps(document).encode(), mtime=0)
Path(OUT).write_bytes(packed)
print(keras.__version__, len(shards), "shards", len(packed), "bytes", hashlib.sha256(packed).hexdigest())
