import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from squint.data.layout import arrange, is_image, numbered, printable


def labelled(names: list[str]) -> list[str] | None:
    layout = arrange(names)
    if layout.targets is None:
        return None
    return [layout.classes[target] if target >= 0 else "?" for target in layout.targets]


def test_flat_and_nested_images_have_no_labels() -> None:
    assert labelled(["a.jpg", "b.jpg"]) is None
    assert labelled(["2021/may/a.jpg", "2021/june/b.jpg", "2022/c.jpg"]) is None


def test_class_folders_give_labels() -> None:
    assert labelled(["cat/1.jpg", "cat/2.jpg", "dog/1.jpg"]) == ["cat", "cat", "dog"]


def test_folders_all_images_share_mean_nothing() -> None:
    assert labelled(["a/b/cat/1.jpg", "a/b/dog/1.jpg"]) == ["cat", "dog"]
    assert labelled(["photos/1.jpg", "photos/2.jpg"]) is None


def test_one_class_is_no_classification() -> None:
    assert labelled(["train/cat/1.jpg", "val/cat/2.jpg"]) is None
    assert numbered(["cat", "cat"]) == ((), None)


def test_images_beside_class_folders_mean_that_folders_are_no_classes() -> None:
    assert labelled(["cat/1.jpg", "dog/1.jpg", "stray.jpg"]) is None
    assert labelled(["cat/1.jpg", "dog/1.jpg", "dog/more/2.jpg"]) is None


def test_train_and_test_folders_are_splits() -> None:
    layout = arrange(["set/test/cat/1.jpg", "set/train/cat/2.jpg", "set/train/dog/3.jpg"])
    assert layout.splits == ("train", "test")
    assert layout.groups is not None and layout.groups.tolist() == [1, 0, 0]
    assert layout.classes == ("cat", "dog")
    assert layout.targets is not None and layout.targets.tolist() == [0, 0, 1]


def test_names_of_the_validation_split_are_one() -> None:
    for name in ("val", "valid", "validation", "Val"):
        assert arrange(["train/1.jpg", f"{name}/1.jpg"]).splits == ("train", "val")


def test_train_and_test_have_longer_names() -> None:
    layout = arrange(["Testing/c/1.jpg", "Training/c/2.jpg", "Training/d/3.jpg"])
    assert layout.splits == ("train", "test") and layout.classes == ("c", "d")
    assert arrange(["Training/c/1.jpg", "Training/d/2.jpg"]).splits == ("train",)


def test_val_and_test_are_splits_without_train() -> None:
    layout = arrange(["test/1.jpg", "val/2.jpg"])
    assert layout.splits == ("val", "test") and layout.targets is None
    assert layout.groups is not None and layout.groups.tolist() == [1, 0]
    names = ["set/test/cat/1.jpg", "set/val/cat/2.jpg", "set/val/dog/3.jpg"]
    assert arrange(names).splits == ("val", "test")
    assert labelled(names) == ["cat", "cat", "dog"]


def test_parts_of_a_set_are_no_classes() -> None:
    for other in ("unlabeled", "Unlabelled"):
        assert labelled(["train/1.jpg", f"{other}/2.jpg"]) is None
    for other in ("test", "Testing", "valid", "training"):
        assert labelled([f"{other}/1.jpg", "extra/2.jpg", "more/3.jpg"]) is None
        assert labelled(["train/cat/1.jpg", f"train/{other}/2.jpg", "test/3.jpg"]) is None


def test_a_split_without_class_folders_leaves_the_others_their_labels() -> None:
    names = ["test/1.jpg", "train/cat/1.jpg", "train/dog/1.jpg"]
    assert labelled(names) == ["?", "cat", "dog"]


def test_images_outside_every_split_belong_to_none() -> None:
    layout = arrange(["extra/1.jpg", "test/1.jpg", "train/1.jpg"])
    assert layout.groups is not None and layout.groups.tolist() == [-1, 1, 0]
    names = ["extra/1.jpg", "test/cat/1.jpg", "train/cat/1.jpg", "train/dog/1.jpg"]
    assert labelled(names) == ["?", "cat", "cat", "dog"]


def test_a_lone_train_folder_is_a_split_and_a_class_called_train_is_not() -> None:
    assert arrange(["train/cat/1.jpg", "train/dog/1.jpg"]).splits == ("train",)
    assert labelled(["bus/1.jpg", "train/1.jpg"]) == ["bus", "train"]
    assert arrange(["bus/1.jpg", "train/1.jpg"]).splits == ()


def test_a_lone_test_folder_is_a_wrapper() -> None:
    assert arrange(["test/cat/1.jpg", "test/dog/1.jpg"]).splits == ()
    assert labelled(["test/cat/1.jpg", "test/dog/1.jpg"]) == ["cat", "dog"]


def test_numbers_are_ordered_as_numbers() -> None:
    classes, targets = numbered(["10", "2", "10", None])
    assert classes == ("2", "10")
    assert targets is not None and targets.tolist() == [1, 0, 1, -1]


def test_whole_numbers_below_0_mean_no_label_and_texts_and_folders_are_classes() -> None:
    classes, targets = numbered(["10", "-1", "2", "-07"])
    assert classes == ("2", "10")
    assert targets is not None and targets.tolist() == [1, -1, 0, -1]
    texts = ["-", "-0", "-1.5", "-a"]
    assert numbered(texts)[0] == tuple(texts)
    assert labelled(["-1/a.png", "1/b.png"]) == ["-1", "1"]


def test_hidden_and_foreign_files_do_not_count() -> None:
    assert is_image("a/B.JPEG") and is_image("../a.png") and is_image("/a.png")
    for name in (".a.jpg", "a/.thumbs/b.jpg", "__MACOSX/a.jpg", "a.txt", "jpg", "a.jpg/b"):
        assert not is_image(name)


@settings(deadline=None, max_examples=50)
@given(st.text(st.characters(codec=None)))
def test_printable_names_stay_on_one_line_and_encode(name: str) -> None:
    shown = printable(name)
    shown.encode()
    assert len(shown.splitlines()) <= 1 and "\t" not in shown
    if name.isprintable():
        assert shown == name


folder = st.sampled_from(["train", "val", "test", "cat", "dog", "a", "b"])


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(folder, max_size=3), min_size=1, max_size=12))
def test_any_tree_is_arranged(folders: list[list[str]]) -> None:
    names = sorted("/".join([*parts, f"{k}.jpg"]) for k, parts in enumerate(folders))
    layout = arrange(names)
    if layout.groups is not None:
        assert layout.splits
        assert set(np.unique(layout.groups)) - {-1} == set(range(len(layout.splits)))
    if layout.targets is not None:
        assert len(layout.targets) == len(names)
        assert set(layout.targets.tolist()) - {-1} == set(range(len(layout.classes)))
        for name, target in zip(names, layout.targets.tolist(), strict=True):
            assert target == -1 or name.split("/")[-2] == layout.classes[target]
