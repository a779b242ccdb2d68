"""kNN against scikit-learn, and independence of block sizes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from squint.errors import DataError, RecipeError
from squint.evaluate.knn import (
    knn_protocol,
    knn_top1,
    neighbors,
)


def clusters(seed, images, classes=4, width=6, spread=1.5):
    """Overlapping Gaussian classes: features (images, width) and labels."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(classes, width, generator=torch.Generator().manual_seed(99))
    labels = torch.randint(classes, (images,), generator=generator)
    return means[labels] + spread * torch.randn(images, width, generator=generator), labels


@pytest.mark.parametrize("temperature", [0.07, 0.5])
@pytest.mark.parametrize("k", [1, 20])
def test_equals_sklearn(k, temperature):
    train, y = clusters(1, 300)
    test, y_test = clusters(2, 200)
    oracle = KNeighborsClassifier(
        n_neighbors=k,
        metric="cosine",
        algorithm="brute",
        weights=lambda distance: np.exp((1 - distance) / temperature),
    ).fit(train.double().numpy(), y.numpy())
    expected = (oracle.predict(test.double().numpy()) == y_test.numpy()).mean()
    ours = knn_top1(train, y, test, y_test, k=k, temperature=temperature, num_classes=4)
    assert ours == pytest.approx(expected, abs=1e-12)
    assert 0.3 < ours < 0.95


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 17), st.integers(1, 23), st.integers(1, 21))
def test_blocks_do_not_matter(query_rows, bank_rows, k):
    bank, _ = clusters(4, 21)
    queries, _ = clusters(5, 9)
    cosines, rows = neighbors(queries, bank, k=k, query_rows=query_rows, bank_rows=bank_rows)
    unit = torch.nn.functional.normalize
    dense = unit(queries.double(), dim=1) @ unit(bank.double(), dim=1).T
    expected, order = dense.topk(k, dim=1)
    torch.testing.assert_close(cosines.double(), expected, rtol=0, atol=1e-6)
    assert torch.equal(rows, order)


def test_scale_of_features_and_low_temperatures_do_no_harm():
    train, y = clusters(1, 100)
    test, y_test = clusters(2, 50)
    settings = {"k": 7, "num_classes": 4}
    assert knn_top1(train, y, test, y_test, **settings) == knn_top1(
        1e4 * train, y, 1e-4 * test, y_test, **settings
    )
    nearest = knn_top1(train, y, test, y_test, k=1, num_classes=4)
    assert knn_top1(train, y, test, y_test, k=7, temperature=1e-6, num_classes=4) == nearest


def test_equal_votes_go_to_the_lowest_class():
    bank = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    query = torch.tensor([[1.0, 0.0]])
    for labels in ([2, 1], [1, 2]):
        y = torch.tensor(labels)
        assert knn_top1(bank, y, query, torch.tensor([1]), k=2, num_classes=3) == 1.0


def test_k_beyond_the_bank_uses_all_of_it_and_says_so():
    x, y = clusters(1, 30)
    assert knn_top1(x, y, x, y, k=500, num_classes=4) == knn_top1(x, y, x, y, k=30, num_classes=4)
    protocol = knn_protocol(k=500, temperature=0.1, bank_images=30)
    assert "k=30 (asked 500, there are no more)" in protocol
    assert "k=20," in knn_protocol(k=20, temperature=0.1, bank_images=30)


def test_numpy_labels():
    x, y = clusters(1, 30)
    arrays = knn_top1(x, y.numpy(), x, y.numpy(), k=3, num_classes=4)
    assert arrays == knn_top1(x, y, x, y, k=3, num_classes=4)


def test_errors():
    x, y = clusters(1, 30)
    with pytest.raises(DataError, match="The train split has no labels"):
        knn_top1(x, None, x, y, num_classes=4)
    with pytest.raises(DataError, match="30 of 30 images of the test split have no label"):
        knn_top1(x, y, x, torch.full((30,), -1), num_classes=4)
    with pytest.raises(DataError, match="not below num_classes=2"):
        knn_top1(x, y, x, y, num_classes=2)
    with pytest.raises(RecipeError, match="k=0"):
        knn_top1(x, y, x, y, k=0, num_classes=4)
    with pytest.raises(RecipeError, match="temperature"):
        knn_top1(x, y, x, y, temperature=0.0, num_classes=4)


@pytest.mark.gpu
def test_neighbors_on_the_device_are_those_of_the_cpu():
    bank, queries = torch.randn(40_000, 64), torch.randn(5000, 64)
    cosines, rows = neighbors(queries, bank, k=50, device="cuda")
    expected, expected_rows = neighbors(queries, bank, k=50)
    assert cosines.device.type == rows.device.type == "cpu"
    torch.testing.assert_close(cosines, expected, rtol=0, atol=1e-5)
    assert (rows == expected_rows).double().mean() > 0.999  # near ties may change places
