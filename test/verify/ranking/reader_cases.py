"""
Records what torchreid's own data set classes read of small made-up trees: fixtures/dataset-cases.json.gz.

    python test/verify/ranking/reader_cases.py PATH_OF_DEEP_PERSON_REID

Needs numpy and torch. The classes run as they are; of torchreid.utils they get what they ask for, since the package imports much more.
"""

import contextlib
import gzip
import importlib.util
import io
import json
import os
import pathlib
import random
import sys
import tempfile
import types

FIXTURE = pathlib.Path(__file__).parents[3] / "fixtures" / "dataset-cases.json.gz"
IMAGES = "torchreid/data/datasets/image"


def load(root):
    def read_json(path):
        with open(path) as file:
            return json.load(file)

    utils = types.ModuleType("torchreid.utils")
    for name in ("read_image", "download_url", "mkdir_if_missing", "write_json"):
        setattr(utils, name, lambda *arguments: None)
    utils.read_json = read_json
    sys.modules["torchreid.utils"] = utils
    for package in ("torchreid", "torchreid.data", "torchreid.data.datasets", "torchreid.data.datasets.image"):
        module = types.ModuleType(package)
        module.__path__ = [str(pathlib.Path(root) / package.replace(".", "/"))]
        sys.modules[package] = module
    names = {"market1501": "Market1501", "dukemtmcreid": "DukeMTMCreID", "msmt17": "MSMT17", "cuhk03": "CUHK03"}
    return {name: getattr(importlib.import_module(f"torchreid.data.datasets.image.{name}"), kind) for name, kind in names.items()}


def pedestrians(rng, pids, cameras, shots, form):
    names = [form(pid, camera, shot) for pid in pids for camera in cameras for shot in range(shots)]
    rng.shuffle(names)
    return names


def market(rng, junk):
    def form(pid, camera, shot):
        name = "-1" if pid < 0 else f"{pid:04d}"
        return f"{name}_c{camera}s{rng.randint(1, 6)}_{rng.randint(0, 999999):06d}_{shot:02d}.jpg"

    tree = {}
    for folder, pids in (("bounding_box_train", [2, 7, 11]), ("query", [1, 3, 1501]), ("bounding_box_test", [0, 1, 3, 1501, *junk])):
        for name in pedestrians(rng, pids, [1, 2, 6], 2, form):
            tree[f"{folder}/{name}"] = ""
        tree[f"{folder}/Thumbs.db"] = ""
        tree[f"{folder}/0001_c1s1_000001_00.png"] = ""
        tree[f"{folder}/0001_c1s1_000002_00.JPG"] = ""
        tree[f"{folder}/more/0001_c1s1_000003_00.jpg"] = ""
    return tree


def duke(rng):
    form = lambda pid, camera, shot: f"{pid:04d}_c{camera}_f{rng.randint(0, 9999999):07d}.jpg"
    tree = {}
    for folder, pids in (("bounding_box_train", [1, 2]), ("query", [5, 6, 7140]), ("bounding_box_test", [3, 5, 6, 7140])):
        for name in pedestrians(rng, pids, [1, 4, 8], 2, form):
            tree[f"{folder}/{name}"] = ""
    return tree


def msmt17(rng, test):
    form = lambda pid, camera, shot: f"{pid:04d}/{pid:04d}_{shot:03d}_{camera:02d}_0303morning_{rng.randint(0, 9999):04d}_0.jpg"
    tree = {}
    for kind, folder, pids in (("train", test.replace("test", "train"), [0, 1]), ("val", test.replace("test", "train"), [0, 1]),
                               ("query", test, [0, 5, 3059]), ("gallery", test, [0, 5, 3059])):
        names = pedestrians(rng, pids, [1, 9, 15], 2, form)
        for name in names:
            tree[f"{folder}/{name}"] = ""
        tree[f"list_{kind}.txt"] = "".join(f"{name} {name[:4].lstrip('0') or '0'}\n" for name in names)
    return tree


def cuhk03(rng, labelled):
    kind = "labeled" if labelled else "detected"
    form = lambda pid, camera, shot: f"{1 + pid // 1000}_{pid % 1000:03d}_{camera}_{shot:02d}.png"
    tree = {}

    def entries(pids, shots):
        names = pedestrians(rng, pids, [1, 2], shots, form)
        for name in names:
            for folder in ("images_detected", "images_labeled"):
                tree[f"{folder}/{name}"] = ""
        return [[f"/somewhere/cuhk03/images_{kind}/{name}", int(name.split("_")[1]), int(name.split("_")[2]) - 1] for name in names]

    split = {"train": entries([1, 2], 3), "query": entries([7, 8], 1), "gallery": entries([7, 8, 9], 4)}
    split |= {f"num_{name}_{what}": 0 for name in ("train", "query", "gallery") for what in ("pids", "imgs")}
    for name in ("splits_new_detected.json", "splits_new_labeled.json"):
        if labelled == ("labeled" in name):
            tree[name] = json.dumps([split])
    others = {"splits_new_detected.json", "splits_new_labeled.json"} - set(tree)
    classic = {"splits_classic_detected.json", "splits_classic_labeled.json"}
    sources = {f"cuhk03_new_protocol_config_{kind}.mat" for kind in ("detected", "labeled")}
    return tree, others | classic | sources | {"cuhk03_release/cuhk-03.mat"}


def case(reader, name, folder, tree, hidden=(), **options):
    """`hidden` are files that the class asks for and does not read here."""
    with tempfile.TemporaryDirectory() as root:
        for path, text in (*tree.items(), *((path, "[]") for path in hidden)):
            target = pathlib.Path(root, folder, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        with contextlib.redirect_stdout(io.StringIO()):
            dataset = reader(root=root, verbose=False, **options)
        found = {
            split: sorted([os.path.basename(path), pid, camid] for path, pid, camid, _ in getattr(dataset, split))
            for split in ("query", "gallery")
        }
    texts = {path: text for path, text in tree.items() if text}
    return {"name": name, "paths": [f"{folder}/{path}" for path in sorted(tree)], "folder": folder, "texts": texts, **found}


def main(root):
    rng = random.Random(16)
    readers = load(root)
    cases = [
        case(readers["market1501"], "Market-1501", "market1501/Market-1501-v15.09.15", market(rng, [-1])),
        case(readers["market1501"], "Market-1501 without its own folder", "market1501", market(rng, [])),
        case(readers["dukemtmcreid"], "DukeMTMC-reID", "dukemtmc-reid/DukeMTMC-reID", duke(rng)),
        case(readers["msmt17"], "MSMT17 V1", "msmt17/MSMT17_V1", msmt17(rng, "test")),
        case(readers["msmt17"], "MSMT17 V2", "msmt17/MSMT17_V2", msmt17(rng, "mask_test_v2")),
    ]
    for labelled in (False, True):
        tree, hidden = cuhk03(rng, labelled)
        cases.append(case(readers["cuhk03"], f"CUHK03, {'labelled' if labelled else 'detected'}", "cuhk03", tree, hidden, cuhk03_labeled=labelled))
    FIXTURE.write_bytes(gzip.compress(json.dumps(cases, separators=(",", ":")).encode(), mtime=0))
    print(len(cases), "trees,", FIXTURE.stat().st_size, "bytes")


main(sys.argv[1])
