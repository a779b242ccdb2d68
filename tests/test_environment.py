"""The recorded commit is that of this package, never that of a project around it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from squint.environment import commit_of

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder: Path, *arguments: str) -> str:
    author = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(folder), *author, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def package(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    return folder


def test_a_tracked_package_has_the_commit_of_its_repository(tmp_path: Path) -> None:
    squint = package(tmp_path / "src" / "squint")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    commit = git(tmp_path, "rev-parse", "--short", "HEAD")
    assert commit_of(squint) == commit
    (squint / "__init__.py").write_text("changed = True")
    assert commit_of(squint) == f"{commit}-dirty"


def test_a_package_installed_inside_another_project_has_none(tmp_path: Path) -> None:
    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "-m", "another project")
    assert commit_of(package(tmp_path / ".venv" / "site-packages" / "squint")) == ""
