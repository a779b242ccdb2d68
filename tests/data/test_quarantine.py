from pathlib import Path

import pytest
from image_files import pixels, png, write_tree

from squint.data import Bad, Quarantine, check, open_source, preflight
from squint.data.quarantine import allowed, lines
from squint.errors import DataError


def bads(count: int) -> list[Bad]:
    return [Bad(f"{k}.jpg", "the file is truncated") for k in range(count)]


def test_one_percent_is_allowed_and_one_more_is_not() -> None:
    quarantine = Quarantine("photos", 500)
    quarantine.add(bads(5))
    with pytest.raises(DataError) as caught:
        quarantine.add([*bads(5), Bad("last.jpg", "empty")])
    message = str(caught.value)
    assert message.startswith("6 of 500 images in photos can't be read (1.2 %). At most 1 % may be")
    assert "raise --data.max-unreadable-percent" in message
    assert "0.jpg: the file is truncated" in message and "and 1 more" in message


def test_all_unreadable_is_never_allowed() -> None:
    with pytest.raises(DataError, match=r"3 of 3 .* At least one image must be readable"):
        Quarantine("photos", 3, max_unreadable_percent=100.0).add(bads(3))
    Quarantine("photos", 4, max_unreadable_percent=100.0).add(bads(3))


def test_allowed_rounds_down() -> None:
    assert [allowed(99, 1.0), allowed(100, 1.0), allowed(1_000, 0.5)] == [0, 1, 5]


def test_an_image_counts_once() -> None:
    quarantine = Quarantine("photos", 100)
    for _ in range(5):
        quarantine.add(bads(1))
    assert len(quarantine) == 1


def test_the_file_has_a_line_per_image() -> None:
    text = lines([*bads(2), *bads(1)])
    assert text == "0.jpg\tthe file is truncated\n1.jpg\tthe file is truncated\n"


def test_check_finds_what_headers_show(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "photos", [f"{k:02d}.png" for k in range(10)])
    (root / "03.png").write_text("no image")
    (root / "07.png").write_bytes(png(pixels(0, 4, 4)))
    found = check(open_source(root), max_unreadable_percent=20.0)
    assert found == (
        Bad("03.png", "not an image in a known format"),
        Bad("07.png", "4x4 is smaller than 8x8"),
    )
    with pytest.raises(DataError, match=r"2 of 10 images .* \(20 %\)"):
        check(open_source(root), max_unreadable_percent=19.0)


def test_check_looks_at_a_fixed_sample_of_large_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "ALL_UP_TO", 10)
    monkeypatch.setattr(preflight, "SAMPLE", 8)
    root = write_tree(tmp_path / "photos", [f"{k:02d}.png" for k in range(20)])
    for path in root.iterdir():
        path.write_text("no image")
    messages = set()
    for _ in range(2):
        with pytest.raises(DataError, match="8 of 8 images in a sample of") as caught:
            check(open_source(root))
        messages.add(str(caught.value))
    assert len(messages) == 1
