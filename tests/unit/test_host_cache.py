"""What the cache and atomic writes promise."""

import threading
from pathlib import Path

import pytest

from harness.host.cache import Cache, write_atomically


def test_writers_of_one_file_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    contents = [bytes([65 + index]) * 100_000 for index in range(8)]
    failures: list[BaseException] = []

    def write(content: bytes) -> None:
        try:
            for _ in range(20):
                write_atomically(target, content)
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert target.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [target]


def test_an_entry_that_could_not_be_made_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cache.entry("kind", "key", fail)
    assert not cache.has("kind", "key")
    assert not list(tmp_path.glob("kind/*.partial"))


def test_an_entry_is_made_once(tmp_path: Path) -> None:
    made: list[Path] = []
    cache = Cache(tmp_path)
    first = cache.entry("kind", "key", made.append)
    assert cache.entry("kind", "key", made.append) == first
    assert len(made) == 1
