"""A project is there whole or not at all, whatever stops `dpf init`, and nothing that it leaves stops the next one."""

from __future__ import annotations

import pytest

from dpf.config.settings import Settings
from dpf.errors import ProjectError
from dpf.files import write_text
from dpf.project.directory import settings_path, write_settings
from dpf.project.lock import writing
from dpf.project.new_project import making, require_new


def fill(folder):
    write_text(folder / "inputs/wells.parquet", "wells")
    write_text(folder / "truth.parquet", "truth")
    write_settings(folder, Settings())


def names(path):
    return sorted(child.relative_to(path).as_posix() for child in path.rglob("*"))


@pytest.mark.parametrize("existed", [False, True])
def test_it_appears_at_the_end(tmp_path, existed):
    path = tmp_path / "deep/p"
    if existed:
        path.mkdir(parents=True)
    with making(path) as folder:
        fill(folder)
        assert names(path)[0].startswith(".")
        assert not settings_path(path).exists()
        with pytest.raises(ProjectError, match="not empty"):  # another one at the same time
            require_new(path)
    assert names(path) == ["dpf.toml", "inputs", "inputs/wells.parquet", "truth.parquet"]


@pytest.mark.parametrize("existed", [False, True])
@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_one_that_fails_leaves_nothing(tmp_path, existed, failure):
    path = tmp_path / "p"
    if existed:
        path.mkdir()

    def fail(folder):
        write_text(folder / "inputs/wells.parquet", "wells")
        raise failure

    with pytest.raises(failure), making(path) as folder:
        fail(folder)
    assert path.exists() == existed
    assert not names(tmp_path / "p")


@pytest.mark.parametrize("moved", [[], ["inputs"], ["inputs", "truth.parquet"]])
def test_what_a_killed_one_left_is_no_obstacle_and_is_removed(tmp_path, moved):
    path = tmp_path / "p"
    left = path / ".init.part"
    fill(left)
    with writing(left):
        pass
    for name in moved:
        (left / name).replace(path / name)
    require_new(path)
    with making(path) as folder:
        assert not (folder / "inputs").exists()
        fill(folder)
    assert names(path) == ["dpf.toml", "inputs", "inputs/wells.parquet", "truth.parquet"]


def test_files_of_the_users_are_an_obstacle(tmp_path):
    fill(tmp_path / "p/.init.part")
    (tmp_path / "p/mine.csv").touch()
    with pytest.raises(ProjectError, match="that folder is not empty"):
        require_new(tmp_path / "p")
