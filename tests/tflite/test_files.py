"""Reading and writing: what is replaced, what is written to, and what is left behind when it fails."""

import os
import stat
import subprocess
import sys
import threading
import tracemalloc

import pytest

from lstm_toolkit.errors import InvalidModelError
from lstm_toolkit.tflite import files
from lstm_toolkit.tflite.files import check_writable, write_whole
from lstm_toolkit.tflite.paths import read_regular
from tests.helpers.sum_file import sum_file

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither devices nor FIFOs in folders")

NEW = bytes(range(256)) * 5000
"""More than a pipe takes at once."""

as_root = pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root makes devices")


def device(path, minor):
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, minor))
    return path


def test_a_new_file_has_the_permissions_that_the_process_gives(tmp_path):
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "new", NEW)
    finally:
        os.umask(before)
    assert (tmp_path / "new").read_bytes() == NEW
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


def test_a_replaced_file_keeps_its_permissions_and_its_other_names_the_old_contents(tmp_path):
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_bytes(b"old")
    path.chmod(0o604)
    os.link(path, other)
    write_whole(path, NEW)
    assert (path.read_bytes(), other.read_bytes()) == (NEW, b"old")
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    assert sorted(os.listdir(tmp_path)) == ["file", "other"]


@as_root
def test_a_replaced_file_keeps_its_owner(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    os.chown(path, 1234, 5678)
    write_whole(path, NEW)
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 5678)


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_its_target_is_written(tmp_path, there):
    target = tmp_path / "folder" / "target"
    target.parent.mkdir()
    if there:
        target.write_bytes(b"old")
    (tmp_path / "middle").symlink_to(target)
    (tmp_path / "link").symlink_to("middle")
    check_writable(tmp_path / "link")
    write_whole(tmp_path / "link", NEW)
    assert target.read_bytes() == NEW
    assert not target.is_symlink()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "middle").is_symlink()
    assert os.listdir(target.parent) == ["target"]


def test_a_fifo_is_written_to(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    check_writable(tmp_path / "fifo")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "fifo").read_bytes()))
    reader.start()
    write_whole(tmp_path / "fifo", NEW)
    reader.join()
    assert read == [NEW]
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode)


def test_a_fifo_that_is_closed_early_is_an_error_that_names_it(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = subprocess.Popen(["head", "-c", "10", fifo], stdout=subprocess.DEVNULL)
    with pytest.raises(BrokenPipeError) as raised:
        write_whole(fifo, NEW)
    reader.wait()
    assert raised.value.filename == str(fifo)
    assert os.listdir(tmp_path) == ["fifo"]


@as_root
def test_a_device_is_written_to_and_stays_one(tmp_path):
    null, full = device(tmp_path / "null", 3), device(tmp_path / "full", 7)
    check_writable(null)
    write_whole(null, NEW)
    with pytest.raises(OSError, match="No space left on device") as raised:
        write_whole(full, NEW)
    assert raised.value.filename == str(full)
    assert stat.S_ISCHR(null.stat().st_mode)
    assert stat.S_ISCHR(full.stat().st_mode)
    assert sorted(os.listdir(tmp_path)) == ["full", "null"]


@pytest.mark.parametrize(
    ("name", "early", "late"),
    [
        ("nowhere/file", "there is no writable folder '.*nowhere'", "No such file or directory"),
        ("file/below", "Not a directory", "Not a directory"),
        ("folder", "Is a directory", "Is a directory"),
        ("loop", "Too many levels of symbolic links", "Too many levels of symbolic links"),
        ("n" * 256, "File name too long", "File name too long"),
    ],
)
def test_what_cannot_be_written_is_said_before_and_leaves_nothing(tmp_path, name, early, late):
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    for act, reason in ((check_writable, early), (lambda path: write_whole(path, NEW), late)):
        with pytest.raises(OSError, match=reason) as raised:
            act(tmp_path / name)
        assert raised.value.filename == str(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "loop"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_the_longest_name_is_not_too_long(tmp_path):
    write_whole(tmp_path / ("n" * 255), NEW)
    assert os.listdir(tmp_path) == ["n" * 255]


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"old")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "file", NEW)
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_reading_takes_the_memory_of_the_file_and_not_of_the_limit(tmp_path):
    """Python takes as much memory as it is told to read, before it reads."""
    path = tmp_path / "small"
    path.write_bytes(b"small")
    tracemalloc.start()
    try:
        assert read_regular(path, 2**40) == b"small"
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_number_that_the_format_cannot_hold_is_refused():
    model = files.read_model(sum_file())
    model.subgraphs[0].tensors[0].shape = [1 << 40, 3]
    with pytest.raises(InvalidModelError, match="a number that the format cannot hold"):
        files.write_model(model)
