"""Record what every layer of an OSNet computes, for `osnet-verify --reference recorded.npz`.

One file; needs torch and numpy (and Pillow for image files). As a program:

    python record_activations.py --model osnet_x1_0 --checkpoint w.pth --input photo.jpg -o recorded.npz

As a library, on a model already in memory:

    from record_activations import record, save
    save("recorded.npz", record(model, images))

Keys are torchreid module paths. A block's gate is one module called once per stream, so its entries carry the
stream, counted from 1: `conv2.0.gate[3].gate_activation` is the third stream's gate vector, `conv2.0.gate[3]` that
stream after gating. `input` and `output` are the network's. Values are NCHW, from evaluation mode, on the CPU.
"""
import argparse
import contextlib
import copy
import importlib
import inspect
import os
import sys
import warnings

import numpy as np
import torch

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # torchreid's defaults: ImageNet, RGB
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "ema")
CLASSIFIER = "classifier."
PARALLEL = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)


class RecordingError(Exception):
    """The model, checkpoint or input cannot be recorded; the message says why and what to do."""


# Recording


def record(model, images, dtype=torch.float32):
    """Run `model` once on NCHW `images`; return {name: array} in the order of computation.

    The model itself is left as it was: a copy runs, on the CPU, in evaluation mode and in `dtype`.
    """
    while isinstance(model, PARALLEL) or hasattr(model, "_orig_mod"):
        model = model.module if isinstance(model, PARALLEL) else model._orig_mod  # the latter is torch.compile's
    if isinstance(model, torch.jit.ScriptModule):
        raise RecordingError("model is TorchScript, whose layers cannot be observed: pass the nn.Module it came from")
    images = torch.as_tensor(images).detach().to("cpu", dtype)
    if images.dim() != 4 or images.shape[1] != 3:
        raise RecordingError(f"input has shape {list(images.shape)}, expected [batch, 3, height, width]")
    model = copy.deepcopy(model).to("cpu", dtype).eval()
    recording, calls = {}, {}

    def observe(path, module):
        parts = path.split(".")
        gate = ".".join(parts[: parts.index("gate") + 1]) if "gate" in parts else None

        def count(*_):
            calls[path] = calls.get(path, 0) + 1

        def keep(_module, _inputs, output):
            name = f"{gate}[{calls[gate]}]{path[len(gate):]}" if gate else path
            if name in recording:
                raise RecordingError(f"{path} ran twice in one forward pass, expected once (only `gate` is shared)")
            # A copy, now: torchreid's ReLUs work in place and would overwrite what the layer before them returned.
            if torch.is_tensor(output):
                recording[name] = output.numpy().copy()

        if path == gate:
            module.register_forward_pre_hook(count)
        module.register_forward_hook(keep)

    for path, module in model.named_modules():
        if path:
            observe(path, module)
    source = images.numpy().copy()
    try:
        with torch.no_grad():
            output = model(images)
    except RuntimeError as error:
        raise RecordingError(f"the model fails on an input of {list(source.shape)}: {error}") from error
    if not torch.is_tensor(output):
        raise RecordingError(f"the model returns {type(output).__name__} in evaluation mode, expected one tensor")
    recording["input"], recording["output"] = source, output.numpy().copy()
    return recording


def save(path, recording):
    """Write a recording as a compressed npz, whole or not at all."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            np.savez_compressed(file, **recording)
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


# Checkpoints


def read_state_dict(path):
    """The state dict in a checkpoint, without wrappers and `module.` prefixes. Runs no code from the file."""
    try:
        with allow_numpy_scalars(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # pickle's, zip's and torch's; their texts advise weights_only=False
        raise RecordingError(
            f"{path} is damaged, or not a checkpoint that torch.load(weights_only=True) takes "
            f"({type(error).__name__}); save it again with torch.save(model.state_dict(), path)"
        ) from error
    while isinstance(found, dict) and any(isinstance(found.get(w), dict) for w in WRAPPERS):
        found = next(found[w] for w in WRAPPERS if isinstance(found.get(w), dict))
    if not isinstance(found, dict) or not any(torch.is_tensor(v) for v in found.values()):
        raise RecordingError(f"{path} contains {type(found).__name__}, expected a state dict (names and tensors)")
    state = {k: v for k, v in found.items() if torch.is_tensor(v)}
    while all(k.startswith("module.") for k in state):
        state = {k[len("module."):]: v for k, v in state.items()}
    return state


def allow_numpy_scalars():
    """torchreid stores `rank1` as a NumPy scalar: plain data, but torch wants it named as safe (from 2.6 on)."""
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):
        return contextlib.nullcontext()
    scalar = (getattr(np, "_core", None) or np.core).multiarray.scalar
    names = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]  # NumPy 1 and 2
    return torch.serialization.safe_globals([*names, np.dtype, *(type(np.dtype(t)) for t in ("f4", "f8"))])


def load(model, state, path):
    """Load strictly; only the classifier may be absent or of another size. Returns a sentence about it."""
    own = model.state_dict()
    counters = [k for k in own if k.endswith("num_batches_tracked") and k not in state]  # not in torch < 0.4.1
    unused = [k for k in {**own, **state}
              if k.startswith(CLASSIFIER) and (k not in own or k not in state or own[k].shape != state[k].shape)]
    state = {**{k: own[k] for k in counters}, **{k: v for k, v in state.items() if k not in unused}}
    problems = [f"missing {k}" for k in own if k not in state and k not in unused]
    problems += [f"unexpected {k}" for k in state if k not in own]
    problems += [f"{k} is {list(state[k].shape)}, expected {list(own[k].shape)}"
                 for k in state if k in own and state[k].shape != own[k].shape]
    if problems:
        raise RecordingError(
            f"{path} does not fit the model, {len(problems)} problems; choose another --model or --factory:\n  "
            + "\n  ".join(problems))
    model.load_state_dict({**state, **{k: own[k] for k in unused if k in own}}, strict=True)
    return f"not loaded: {', '.join(unused)}" if unused else ""


# Models and inputs of the command line


def build(name, factory, num_classes):
    """torchreid's model of that name, or what the user's `module:function` returns."""
    if factory:
        module, _, function = factory.partition(":")
        sys.path.insert(0, os.getcwd())
        try:
            make = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError, ValueError) as error:
            raise RecordingError(f"--factory {factory} is not an importable module:function: {error}") from error
        accepted = inspect.signature(make).parameters
        arguments = {"num_classes": num_classes, "pretrained": False}  # `pretrained` would download weights
        model = make(**{k: v for k, v in arguments.items() if k in accepted})
        if not isinstance(model, torch.nn.Module):
            raise RecordingError(f"--factory {factory} returns {type(model).__name__}, expected a torch.nn.Module")
        return model
    for package in ("torchreid.models", "torchreid.reid.models"):  # GitHub; PyPI
        try:
            models = importlib.import_module(package)
            break
        except ImportError as error:
            reason = error
    else:
        raise RecordingError(f"torchreid cannot be imported ({reason}); install it, or give --factory module:function")
    try:
        return models.build_model(name, num_classes=num_classes, pretrained=False, use_gpu=False)
    except KeyError as error:
        raise RecordingError(f"--model {name} is not one of torchreid's: {error.args[0]}") from error


def read_images(sources, size, count):
    """One normalised NCHW batch from image files, .npy/.npz arrays (used as they are) and seed:N."""
    batches = []
    for source in sources:
        try:
            if source.startswith("seed:"):
                batches.append(normalise(random_pictures(int(source[5:]), count, size)))
            elif source.endswith((".npy", ".npz")):
                array = np.load(source, allow_pickle=False)
                array = array["input"] if source.endswith(".npz") else array
                batches.append(array[None] if array.ndim == 3 else array)
            else:
                from PIL import Image

                picture = Image.open(source).convert("RGB")
                picture = picture.resize(size[::-1], Image.BILINEAR)  # what torchvision's Resize does
                batches.append(normalise(np.asarray(picture)[None]))
        except ImportError as error:
            raise RecordingError(f"--input {source} needs Pillow: pip install Pillow, or give a .npy array") from error
        except Exception as error:  # NumPy's, Pillow's and zipfile's
            raise RecordingError(f"--input {source} cannot be used: {error}") from error
    shapes = {batch.shape[1:] for batch in batches}
    if len(shapes) > 1 or not all(np.issubdtype(batch.dtype, np.floating) for batch in batches):
        raise RecordingError(f"--input arrays are {[f'{b.dtype}{list(b.shape)}' for b in batches]}, "
                             "expected floating-point NCHW of one size")
    return np.concatenate(batches)


def normalise(pixels):
    """uint8 NHWC RGB -> float32 NCHW, as torchvision's ToTensor and Normalize."""
    scaled = (pixels.astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def random_pictures(seed, count, size):
    """`count` distinct picture-like uint8 images: coloured noise, strongest where it is coarsest."""
    rng = np.random.default_rng(seed)
    canvas = np.full((count, *size, 3), 128.0)
    for cell, strength in ((64, 45), (16, 35), (4, 20), (1, 8)):
        rows, columns = -(-size[0] // cell), -(-size[1] // cell)
        noise = rng.standard_normal((count, rows, columns, 3)) * strength
        canvas += noise.repeat(cell, 1).repeat(cell, 2)[:, : size[0], : size[1]]
    return canvas.clip(0, 255).astype(np.uint8)


def image_size(text):
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"{text} is not HEIGHTxWIDTH, such as 256x128")
    return int(height), int(width)


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Record every layer's output of an OSNet as an npz for osnet-verify.")
    add = parser.add_argument
    add("--model", metavar="NAME", help="torchreid's name for the model, such as osnet_x1_0")
    add("--factory", metavar="MODULE:FUNCTION", help="what builds your own model, instead of --model")
    add("--checkpoint", metavar="FILE", required=True)
    add("--input", metavar="SOURCE", required=True, nargs="+", help="images, .npy, .npz (its `input`) or seed:N")
    add("-o", "--output", metavar="FILE.npz", required=True)
    add("--size", metavar="HxW", type=image_size, default=(256, 128), help="of images and seed:N (256x128)")
    add("--batch", metavar="N", type=int, default=1, help="pictures per seed:N (1)")
    add("--dtype", choices=("float32", "float64"), default="float32", help="what the model runs in (float32)")
    options = parser.parse_args(arguments)
    if bool(options.model) == bool(options.factory):
        parser.error("give either --model or --factory")
    if options.batch < 1:
        parser.error(f"--batch is {options.batch}, expected 1 or more")
    try:
        state = read_state_dict(options.checkpoint)
        classes = state[CLASSIFIER + "weight"].shape[0] if CLASSIFIER + "weight" in state else 1
        model = build(options.model, options.factory, classes)
        note = load(model, state, options.checkpoint)
        images = read_images(options.input, options.size, options.batch)
        recording = record(model, images, getattr(torch, options.dtype))
        if note and CLASSIFIER[:-1] in recording:
            raise RecordingError(f"{options.checkpoint} lacks the classifier that this model's output needs ({note})")
        save(options.output, recording)
    except (RecordingError, OSError) as error:
        print(f"record_activations: {error}", file=sys.stderr)
        return 2
    bad = next((k for k, v in recording.items() if not np.isfinite(v).all()), None)
    gates = sum(k.endswith("].gate_activation") for k in recording)
    print(f"{options.output}: {len(recording)} tensors, {gates} gate vectors, {options.dtype}, "
          f"input {list(recording['input'].shape)}, output {list(recording['output'].shape)}"
          + (f"; {note}" if note else "") + (f"; first value that is not finite: {bad}" if bad else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
