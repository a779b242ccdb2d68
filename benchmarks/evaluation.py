"""kNN and linear probe on 50,000 x 512 features, against what people use.

    python benchmarks/evaluation.py --threads 2 --write

Features are synthetic but shaped like an encoder's: ten overlapping classes, dimensions correlated
with a spectrum that falls as a power law. kNN: 10,000 queries, k = 200, equal accuracy is printed.
Probe: 45,000 images, mean cross entropy + strength / 2 ||W||^2, every solver to a largest gradient
entry of 1e-4 or 200 iterations; the loss it reached (in float64) is printed beside its time.
"""

import importlib
import warnings
from typing import Any, cast

import numpy as np
import side_by_side
import torch
from side_by_side import Case, Section
from torch.nn.functional import cross_entropy, normalize

from squint.evaluate import logistic
from squint.evaluate.knn import knn_top1

CLASSES, WIDTH, K, TEMPERATURE = 10, 512, 200, 0.1
STRENGTH = 1e-3
PATH = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
TOLERANCE, ITERATIONS = 1e-4, 200


def features(images: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    shape = torch.Generator().manual_seed(0)
    means = 0.15 * torch.randn(CLASSES, WIDTH, generator=shape)
    turn = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=shape))[0]
    spectrum = torch.arange(1, WIDTH + 1) ** -0.7
    own = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (images,), generator=own)
    noise = torch.randn(images, WIDTH, generator=own)
    return ((means[labels] + noise) * spectrum) @ turn, labels


def knn_cases(
    bank: torch.Tensor, bank_y: torch.Tensor, test: torch.Tensor, y: torch.Tensor
) -> tuple[list[Case], dict[str, str]]:
    accuracy: dict[str, str] = {}

    def said(name: str, top1: float) -> None:
        accuracy[name] = f"top-1 {top1:.4f}"

    def vote(cosines: torch.Tensor, rows: torch.Tensor) -> float:
        weights = (cosines / TEMPERATURE).exp()
        scores = torch.zeros(len(rows), CLASSES).scatter_add_(1, bank_y[rows], weights)
        return (scores.argmax(1) == y).double().mean().item()

    def ours() -> None:
        top1 = knn_top1(bank, bank_y, test, y, k=K, temperature=TEMPERATURE, num_classes=CLASSES)
        said("squint", top1)

    def dense() -> None:
        similar = normalize(test, dim=1) @ normalize(bank, dim=1).T
        said("torch, one matrix", vote(*similar.topk(K, dim=1)))

    def lightly() -> None:
        knn_predict = importlib.import_module("lightly.utils.benchmarking").knn_predict
        feature_bank = normalize(bank, dim=1).T.contiguous()
        right = 0
        for part, truth in zip(normalize(test, dim=1).split(512), y.split(512), strict=True):
            found = knn_predict(part, feature_bank, bank_y, CLASSES, knn_k=K, knn_t=TEMPERATURE)
            right += int((found[:, 0] == truth).sum())
        said("lightly knn_predict, batches of 512", right / len(y))

    def faiss_flat() -> None:
        faiss = importlib.import_module("faiss")
        faiss.omp_set_num_threads(torch.get_num_threads())
        index = faiss.IndexFlatIP(WIDTH)
        index.add(normalize(bank, dim=1).numpy())
        cosines, rows = index.search(normalize(test, dim=1).numpy(), K)
        said("faiss IndexFlatIP", vote(torch.from_numpy(cosines), torch.from_numpy(rows)))

    def sklearn() -> None:
        from sklearn.neighbors import KNeighborsClassifier

        def weights(distance: np.ndarray) -> Any:
            return np.exp((1 - distance**2 / 2) / TEMPERATURE)

        model = KNeighborsClassifier(K, weights=cast(Any, weights), algorithm="brute")
        model.fit(normalize(bank, dim=1).numpy(), bank_y.numpy())
        said("scikit-learn, brute", float(model.score(normalize(test, dim=1).numpy(), y.numpy())))

    ways = {
        "squint": ours,
        "torch, one matrix": dense,
        "lightly knn_predict, batches of 512": lightly,
        "faiss IndexFlatIP": faiss_flat,
        "scikit-learn, brute": sklearn,
    }
    return [Case(name, way) for name, way in ways.items()], accuracy


def probe_cases(x: torch.Tensor, y: torch.Tensor) -> tuple[list[Case], dict[str, str]]:
    reached: dict[str, str] = {}

    def said(name: str, weight: torch.Tensor, bias: torch.Tensor) -> None:
        weight, bias = weight.double(), bias.double()
        loss = cross_entropy(x.double() @ weight.T + bias, y) + STRENGTH / 2 * weight.square().sum()
        reached[name] = f"loss {loss.item():.6f}"

    def ours(strengths: tuple[float, ...], name: str) -> None:
        found = logistic.fit(
            x, y, strengths, classes=CLASSES, tolerance=TOLERANCE, max_iterations=ITERATIONS
        )
        row = strengths.index(STRENGTH)
        said(name, found.weight[row], found.bias[row])

    def sklearn() -> None:
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=1 / (STRENGTH * len(x)), tol=TOLERANCE, max_iter=ITERATIONS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(x.numpy(), y.numpy())
        said("scikit-learn", torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_))

    def torch_dense() -> None:
        weight = torch.zeros(CLASSES, WIDTH, requires_grad=True)
        bias = torch.zeros(CLASSES, requires_grad=True)
        solver = torch.optim.LBFGS(
            [weight, bias],
            max_iter=ITERATIONS,
            tolerance_grad=TOLERANCE,
            tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        )

        def closure() -> torch.Tensor:
            solver.zero_grad()
            loss = cross_entropy(x @ weight.T + bias, y) + STRENGTH / 2 * weight.square().sum()
            loss.backward()
            return loss

        solver.step(closure)  # pyright: ignore
        said("torch.optim.LBFGS", weight.detach(), bias.detach())

    one, seven = "squint, this strength", f"squint, {len(PATH)} strengths at once"
    cases = [
        Case(one, lambda: ours((STRENGTH,), one)),
        Case(seven, lambda: ours(PATH, seven)),
        Case("scikit-learn", sklearn),
        Case("torch.optim.LBFGS", torch_dense),
    ]
    return cases, reached


KNN_MEMORY = """
import torch
from squint.evaluate.knn import knn_top1
torch.set_num_threads(2)
bank, test = torch.randn(50_000, 512), torch.randn(10_000, 512)
bank_y, y = torch.arange(50_000) % 10, torch.arange(10_000) % 10
torch.randn(512, 512) @ torch.randn(512, 512)
# ---
knn_top1(bank, bank_y, test, y, k=200, temperature=0.1, num_classes=10)
"""
PROBE_MEMORY = """
import torch
from squint.evaluate import logistic
torch.set_num_threads(2)
x, y = torch.randn(45_000, 512), torch.arange(45_000) % 10
torch.linalg.eigh(torch.eye(512).double())
# ---
logistic.fit(x, y, (1e-3, 1e-2, 1e-1, 1.0, 10.0), classes=10)
"""


def main() -> None:
    chosen = side_by_side.options(__doc__)
    # first: a new process inherits the peak of the one that starts it
    knn_memory = side_by_side.peak_mebibytes(KNN_MEMORY)
    probe_memory = side_by_side.peak_mebibytes(PROBE_MEMORY)
    images, queries = (10_000, 2_000) if chosen.quick else (50_000, 10_000)
    (bank, bank_y), (test, y) = features(images, 1), features(queries, 2)
    cases, accuracy = knn_cases(bank, bank_y, test, y)
    timings = side_by_side.measure(cases, seconds=chosen.seconds)
    accuracy["squint"] += f"; {knn_memory:.0f} MiB beside the features at 50,000 x 10,000"
    title = f"kNN, {images:,} x {queries:,} x {WIDTH}, k = {K}"
    sections = [Section(title, timings, against="squint", notes=accuracy)]

    x = bank[: images * 9 // 10]
    x = (x - x.mean(dim=0)) / x.std(dim=0)
    cases, reached = probe_cases(x, bank_y[: len(x)])
    timings = side_by_side.measure(cases, seconds=chosen.seconds)
    reached[cases[1].name] += f"; {probe_memory:.0f} MiB beside the features (5 strengths, 45,000)"
    title = f"Linear probe, {len(x):,} x {WIDTH}, {CLASSES} classes, strength {STRENGTH:g}"
    sections.append(Section(title, timings, against=cases[0].name, notes=reached))
    side_by_side.report("evaluation", sections, chosen)


if __name__ == "__main__":
    main()
