"""The folder of compiled programs: one for each kind of program, and it does not grow for ever."""

import os
import time

import compile_cache
import pytest


def test_the_folder_lies_in_the_cache_of_the_user_and_depends_on_what_programs_depend_on(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = compile_cache.folder()
    assert first.startswith(str(tmp_path / "jlayers" / "tests"))
    assert os.path.isdir(first)
    assert compile_cache.folder() == first
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_max_isa=AVX")
    second = compile_cache.folder()
    monkeypatch.setattr(compile_cache, "processor", lambda: "another")
    assert len({first, second, compile_cache.folder()}) == 3


@pytest.fixture
def kept(tmp_path):
    """Programs that were used 40, 2 and 1 days ago, of 10 bytes each, under two keys."""
    for days, name in ((40, "old/a"), (2, "new/b"), (1, "new/c")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(10))
        os.utime(path, (time.time() - days * 86400,) * 2)
    os.utime(tmp_path / "old", (time.time() - 40 * 86400,) * 2)
    return tmp_path


def names(kept):
    return sorted(path.name for path in kept.glob("*/*"))


def test_what_was_not_used_for_a_month_is_dropped(kept):
    compile_cache.prune(kept)
    assert names(kept) == ["b", "c"]
    compile_cache.prune(kept, now=time.time() + 90 * 86400)
    assert names(kept) == []
    assert list(kept.iterdir()) == []


def test_too_much_drops_what_was_used_longest_ago(kept, monkeypatch):
    monkeypatch.setattr(compile_cache, "BYTES", 15)
    compile_cache.prune(kept)
    assert names(kept) == ["c"]
