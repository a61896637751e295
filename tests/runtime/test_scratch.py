"""Temporary folders: what a killed process leaves is removed by the next one, what a living one uses is not."""

import os
import signal
import subprocess
import sys
import tempfile

import pytest

from lstm_toolkit.runtime.scratch import PREFIX, scratch_folder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no locks of this kind")

HOLDER = """
import time
from lstm_toolkit.runtime.scratch import scratch_folder
with scratch_folder() as folder:
    open(folder + "/large", "w").write("data")
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True, env=environment)
    process.folder = process.stdout.readline().strip()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_folder_is_removed_at_its_end_and_after_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch_folder() as folder, scratch_folder() as other:
        assert os.path.isdir(folder)
        assert os.path.isdir(other)
    with pytest.raises(KeyboardInterrupt), scratch_folder():
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_leaves_is_removed_by_the_next_one(tmp_path, holder):
    foreign = tmp_path / "other" / "thing"
    foreign.mkdir(parents=True)
    link = tmp_path / f"{PREFIX}_or_link"
    link.symlink_to(foreign.parent)
    others = ["lstm_toolkit-1.0.0", "lstm_toolkit", PREFIX, f"{PREFIX}mine", f"{PREFIX}of_mine_too"]
    for other in others:
        (tmp_path / other).mkdir()
    with scratch_folder():
        assert os.listdir(holder.folder) == ["large"]
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert os.path.isdir(holder.folder)
    with scratch_folder() as folder:
        assert sorted(os.listdir(tmp_path)) == sorted([*others, "other", link.name, os.path.basename(folder)])
    assert foreign.is_dir()
