"""
Records what torchreid's own metrics make of small distance matrices: fixtures/ranking-cases.json.gz.

    python test/verify/ranking/torchreid_cases.py PATH_OF_DEEP_PERSON_REID

numpy.argsort is made stable, since torchreid's order of equal distances depends on numpy's sorting algorithm.
"""

import gzip
import importlib.util
import json
import pathlib
import sys
import types

import numpy as np

FIXTURE = pathlib.Path(__file__).parents[3] / "fixtures" / "ranking-cases.json.gz"


def load(root, path, name):
    spec = importlib.util.spec_from_file_location(name, pathlib.Path(root) / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Numpy(types.ModuleType):
    """numpy with a stable argsort."""

    def __init__(self):
        super().__init__("numpy")

    def __getattr__(self, name):
        return getattr(np, name)

    @staticmethod
    def argsort(values, axis=-1):
        return np.argsort(values, axis=axis, kind="stable")


def main(root):
    rank = load(root, "torchreid/metrics/rank.py", "rank")
    rerank = load(root, "torchreid/utils/rerank.py", "rerank")
    rank.np = Numpy()
    rerank.np = Numpy()
    cases = []
    rng = np.random.default_rng(20261129)

    def add(name, distances, q_pids, g_pids, q_camids, g_camids):
        arrays = [np.asarray(a) for a in (q_pids, g_pids, q_camids, g_camids)]
        cmc, mean_ap = rank.eval_market1501(np.asarray(distances), *arrays, 50)
        cases.append(
            {
                "name": name,
                "distances": np.asarray(distances).tolist(),
                "qPids": arrays[0].tolist(),
                "gPids": arrays[1].tolist(),
                "qCamids": arrays[2].tolist(),
                "gCamids": arrays[3].tolist(),
                "cmc": [float(x) for x in cmc],
                "mAP": float(mean_ap),
            }
        )

    for size, levels in [((12, 70), 0), ((12, 70), 5), ((7, 60), 1), ((5, 55), 2), ((30, 120), 0), ((3, 20), 0)]:
        q, g = size
        distances = rng.random(size) if levels == 0 else rng.integers(0, levels, size).astype(float)
        # Every query keeps at least 50 gallery images, or torchreid's arrays are ragged.
        pids = rng.integers(0, 6, g)
        add(
            f"{q}x{g}, {levels or 'all'} levels",
            distances,
            rng.integers(1, 8, q),
            pids,
            rng.integers(0, 3, q),
            rng.integers(0, 3, g) if g >= 50 else np.full(g, 4),
        )

    features = rng.standard_normal((40, 16)).astype(np.float32)
    features[20:] += features[:20]
    q, g = features[:10], features[10:]
    squared = lambda a, b: ((a[:, None].astype(np.float64) - b[None]) ** 2).sum(-1)
    reranked = [
        {"k1": k1, "k2": k2, "lambda": weight, "result": rerank.re_ranking(squared(q, g), squared(q, q), squared(g, g), k1, k2, weight).tolist()}
        for k1, k2, weight in [(20, 6, 0.3), (5, 1, 0.3), (7, 3, 0.0)]
    ]
    document = {
        "source": "torchreid (deep-person-reid), torchreid/metrics/rank.py and torchreid/utils/rerank.py",
        "cases": cases,
        "reranking": {"query": q.tolist(), "gallery": g.tolist(), "runs": reranked},
    }
    FIXTURE.write_bytes(gzip.compress(json.dumps(document).encode(), mtime=0))
    print(FIXTURE.stat().st_size, "bytes")


main(sys.argv[1])
