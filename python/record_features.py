"""Record the features that PyTorch computes of pictures, for `osnet-verify rank --reference features.npy`.

Needs `record_activations.py` beside it, torch, numpy, and Pillow for the pictures. As a program:

    python record_features.py --model osnet_x1_0 --checkpoint w.pth --data Market-1501-v15.09.15 -o features.npy

As a library, on a model already in memory:

    from record_features import features, save
    save("features.npy", *features(model, "crops"))

Writes an array [pictures, D] in the model's dtype, and beside it a `.txt` with the path of each row's picture, from the
folder of `--data`, with forward slashes. Pictures are prepared as torchreid's test transform does it: RGB, resized to
`--size` (bilinear, antialiased), scaled to 0 to 1, normalised with ImageNet's mean and deviation.

Pillow 13 decodes and resizes to the same pixels as osnet-verify. Older ones round some sizes otherwise, and other decoders differ by a few
levels, which moves features by percents: `--decoded FOLDER` writes the pictures as they were decoded here, as PNG under their own names (a
`.jpg` too), for `osnet-verify rank --data FOLDER`.
"""
import argparse
import os
import sys

import numpy as np
import torch

from record_activations import CLASSIFIER, RecordingError, build, image_size, load, normalise, read_state_dict

PICTURES = (".jpg", ".jpeg", ".png")


def features(model, data, size=(256, 128), dtype=torch.float32, batch=32, decoded=None, say=lambda text: None):
    """Run `model` in evaluation mode on every picture below `data`; return (array [N, D], list of N paths).

    The model is moved to the CPU and to `dtype`. Pictures that cannot be read are named to `say`, and left out. `decoded`
    is a folder for the pictures as they were decoded.
    """
    model = model.to("cpu", dtype).eval()
    rows, paths, waiting = [], [], []

    def run():
        with torch.no_grad():
            output = model(torch.from_numpy(normalise(np.stack([pixels for _, pixels in waiting]))).to(dtype))
        if not torch.is_tensor(output) or output.dim() != 2:
            raise RecordingError("the model returns no matrix of features in evaluation mode")
        rows.append(output.numpy())
        paths.extend(path for path, _ in waiting)
        waiting.clear()

    for path in pictures_below(data):
        try:
            waiting.append((path, read_picture(data, path, size, decoded)))
        except RecordingError:
            raise
        except Exception as error:  # Pillow's, of several kinds: of a picture that is too large, or broken
            say(f"left out: {path}: {error}")
        if len(waiting) == batch:
            run()
    if waiting:
        run()
    if not rows:
        raise RecordingError(f"{data} has no readable .jpg or .png pictures")
    return np.concatenate(rows), paths


def pictures_below(data):
    """Paths of all pictures below a folder, from there, with forward slashes, sorted."""
    if not os.path.isdir(data):
        raise RecordingError(f"{data} is not a folder")
    found = []
    for folder, _, names in os.walk(data):
        for name in names:
            if name.lower().endswith(PICTURES):
                found.append(os.path.relpath(os.path.join(folder, name), data).replace(os.sep, "/"))
    return sorted(found)


def read_picture(data, path, size, decoded):
    """uint8 [height, width, 3], RGB; the picture as it was decoded goes to the folder `decoded`."""
    try:
        from PIL import Image
    except ImportError as error:
        raise RecordingError("pictures need Pillow: pip install Pillow") from error
    with Image.open(os.path.join(data, path)) as picture:
        picture = picture.convert("RGB")
    if decoded:
        target = os.path.join(decoded, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        picture.save(target, "PNG")
    return np.asarray(picture.resize(size[::-1], Image.BILINEAR))


def save(path, array, paths):
    """Write features as .npy, and the list of their pictures; each whole or not at all."""
    root, suffix = os.path.splitext(path)
    if suffix != ".npy":
        raise RecordingError(f"{path} is not an .npy file")
    if any("\n" in name or "\r" in name for name in paths):
        raise RecordingError("a picture's path has a line break, which the list cannot have")
    for target, write in (
        (root + ".txt", lambda file: file.write("".join(f"{name}\n" for name in paths).encode())),
        (path, lambda file: np.save(file, array)),
    ):
        temporary = f"{target}.{os.getpid()}.tmp"
        try:
            with open(temporary, "wb") as file:
                write(file)
            os.replace(temporary, target)
        finally:
            if os.path.exists(temporary):
                os.remove(temporary)


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Record PyTorch's features of pictures for osnet-verify rank.")
    add = parser.add_argument
    add("--model", metavar="NAME", help="torchreid's name for the model, such as osnet_x1_0")
    add("--factory", metavar="MODULE:FUNCTION", help="what builds your own model, instead of --model")
    add("--checkpoint", metavar="FILE", required=True)
    add("--data", metavar="FOLDER", required=True, help="pictures, in this folder and those below")
    add("-o", "--output", metavar="FILE.npy", required=True)
    add("--decoded", metavar="FOLDER", help="write the pictures as they were decoded, as PNG under their own names")
    add("--size", metavar="HxW", type=image_size, default=(256, 128), help="of pictures (256x128)")
    add("--batch", metavar="N", type=int, default=32, help="pictures in one run (32)")
    add("--dtype", choices=("float32", "float64"), default="float32", help="what the model runs in (float32)")
    options = parser.parse_args(arguments)
    if bool(options.model) == bool(options.factory):
        parser.error("give either --model or --factory")
    if options.batch < 1:
        parser.error(f"--batch is {options.batch}, expected 1 or more")
    if options.decoded and os.path.exists(options.decoded):
        parser.error(f"--decoded {options.decoded} is there already")
    try:
        state = read_state_dict(options.checkpoint)
        classes = state[CLASSIFIER + "weight"].shape[0] if CLASSIFIER + "weight" in state else 1
        model = build(options.model, options.factory, classes)
        note = load(model, state, options.checkpoint)
        array, paths = features(
            model, options.data, options.size, getattr(torch, options.dtype), options.batch,
            options.decoded, lambda text: print(text, file=sys.stderr),
        )
        save(options.output, array, paths)
    except (RecordingError, OSError) as error:
        print(f"record_features: {error}", file=sys.stderr)
        return 2
    print(f"{options.output}: {array.shape[0]} pictures, {array.shape[1]} features each, {options.dtype}"
          + (f"; {note}" if note else "")
          + ("" if np.isfinite(array).all() else "; some are not finite"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
