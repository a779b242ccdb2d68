"""Whether a file that a user asks for may be written."""

import os
from pathlib import Path

import pytest

from squint import files
from squint.errors import RunError


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("page.txt", r"page.txt must end in .html or .htm: the ending says its kind"),
        ("no/page.html", r"the folder .*no does not exist. Make it first"),
        ("folder.html", r"folder.html is a folder. Give the name of a file"),
        (
            "there.html",
            r"--out .*there.html is there already, .*, or add --overwrite to replace it",
        ),
        ("dangling.html", r"dangling.html is there already"),
    ],
)
def test_what_may_not_be_written_is_said(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "there.html").write_text("mine")
    (tmp_path / "dangling.html").symlink_to(tmp_path / "nowhere")
    with pytest.raises(RunError, match=said):
        files.check_file(tmp_path / name, kinds=(".html", ".htm"), overwrite=False)


def test_a_file_is_replaced_only_when_told_and_a_device_never(tmp_path: Path) -> None:
    there = tmp_path / "THERE.HTML"
    there.write_text("mine")
    files.check_file(there, kinds=(".html",), overwrite=True)
    files.check_file(tmp_path / "new", overwrite=False)
    with pytest.raises(RunError, match="--json /dev/null is no ordinary file"):
        files.check_file(Path(os.devnull), overwrite=True, flag="--json")


def test_a_folder_that_is_not_ours_is_told_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(RunError, match="is not ours to write"):
        files.check_file(tmp_path / "new.html", overwrite=False)
