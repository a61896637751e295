"""How the command line ends: signals at any moment, closed and full outputs, and devices as files."""

import os
import re
import shlex
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import keras
import pytest

import lstm_toolkit
from tests.helpers.models import randomized

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no child to end")

OLD_WAY = ["-c", "from lstm_toolkit.cli import main; main()"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    model = randomized(keras.Sequential([keras.Input((7, 5)), keras.layers.LSTM(6)]))
    model.save(folder / "good.keras")
    (folder / "good.tflite").write_bytes(lstm_toolkit.convert(model, verify=False).tflite)
    return folder


def start(*args, way=("-m", "lstm_toolkit"), scratch=None, **options):
    """The command line in a process, whose temporary files go to the folder `scratch`."""
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    environment = os.environ | ({} if scratch is None else {"TMPDIR": str(scratch)})
    return subprocess.Popen([sys.executable, *way, *map(str, args)], env=environment, **piped)


def shell(line, folder):
    """What a line for a shell, in which `$T` is the command, ended with and wrote to standard output and error."""
    line = f'run() {{ {shlex.quote(sys.executable)} -m lstm_toolkit "$@"; }}; T=run; set -o pipefail; {line}'
    done = subprocess.run(["bash", "-c", line], capture_output=True, cwd=folder, timeout=120)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def is_left(scratch):
    """Whether a process is left whose temporary files go to a folder."""
    for status in Path("/proc").glob("[0-9]*/environ"):
        try:
            if os.fsencode(scratch) in status.read_bytes():
                return True
        except OSError:
            continue
    return False


def ended(process, scratch, number):
    """Exit code and error lines after a signal; nothing of the process is left."""
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    deadline = time.monotonic() + 5
    while is_left(scratch) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_left(scratch)
    return process.returncode, [line for line in errors.decode().splitlines() if not line.endswith(" ...")]


def moments(process):
    """Yields when the process has come that far: it is the package's, it loads TensorFlow, it converts."""
    while not Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text():
        time.sleep(0.001)
    yield "start"
    for line in process.stderr:
        yield line.decode().removesuffix(" ...\n")


@pytest.mark.parametrize(
    ("moment", "way"),
    [
        ("start", ("-m", "lstm_toolkit")),
        ("start", OLD_WAY),
        ("loading TensorFlow", ("-m", "lstm_toolkit")),
        ("converting", ("-m", "lstm_toolkit")),
    ],
)
def test_control_c_is_one_line_and_130(folder, tmp_path, moment, way):
    (tmp_path / "scratch").mkdir()
    command = ("convert", folder / "good.keras", "-o", tmp_path / "new.tflite", "--progress")
    process = start(*command, way=way, scratch=tmp_path / "scratch")
    assert next(each for each in moments(process) if each == moment)
    time.sleep(0.1)
    start_of_end = time.monotonic()
    assert ended(process, tmp_path / "scratch", signal.SIGINT) == (130, ["Aborted!"])
    assert time.monotonic() - start_of_end < 2
    assert os.listdir(tmp_path) == ["scratch"]
    assert os.listdir(tmp_path / "scratch") == []


def test_control_c_before_anything_is_imported(tmp_path):
    """The entry point answers it before click and the rest are there."""
    hold = "import builtins, os, signal\nimport lstm_toolkit.__main__ as entry\n"
    hold += "def load(name, *_, load=builtins.__import__, **more):\n"
    hold += "    os.kill(os.getpid(), signal.SIGINT) if name.startswith('lstm_toolkit.') else None\n"
    hold += "    return load(name, *_, **more)\nbuiltins.__import__ = load\nentry.main()"
    process = start(way=("-c", hold), scratch=tmp_path)
    assert process.communicate(timeout=30) == (b"", b"Aborted!\n")
    assert process.returncode == 130


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_end_it_by_themselves(folder, tmp_path, number):
    def heeded():  # a test run that was started by nohup ignores SIGHUP, and so would the command
        signal.signal(number, signal.SIG_DFL)

    output = tmp_path / "new.tflite"
    process = start("convert", folder / "good.keras", "-o", output, "--progress", scratch=tmp_path, preexec_fn=heeded)
    assert next(each for each in moments(process) if each == "loading TensorFlow")
    assert ended(process, tmp_path, number) == (-number, [])
    assert os.listdir(tmp_path) == []


def test_what_a_kill_leaves_is_removed_at_the_next_start(folder, tmp_path):
    process = start("convert", folder / "good.keras", "-o", tmp_path / "new.tflite", "--progress", scratch=tmp_path)
    assert next(each for each in moments(process) if each == "loading TensorFlow")
    assert ended(process, tmp_path, signal.SIGKILL)[0] == -signal.SIGKILL
    assert len(os.listdir(tmp_path)) == 1
    start("--version", scratch=tmp_path).communicate(timeout=30)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("work", "code", "errors"),
    [
        ("lambda: os.kill(os.getpid(), signal.SIGINT) or time.sleep(9)", 130, b"Aborted!\n"),
        ("lambda: sys.exit(3)", 3, b""),
        ("lambda: open(os.devnull).write('x')", 1, b"Error: cannot write the output: not writable\n"),
    ],
)
def test_where_there_are_no_such_children_the_work_is_done_in_the_process(work, code, errors):
    program = "import os, signal, sys, time; from lstm_toolkit.runtime.attended import attended; sys.platform = 'other'"
    process = start(way=("-c", f"{program}; attended({work})"))
    assert process.communicate(timeout=30) == (b"", errors)
    assert process.returncode == code


def test_control_z_stops_the_work_too(folder, tmp_path):
    process = start("convert", folder / "good.keras", "-o", tmp_path / "new.tflite", "--progress", scratch=tmp_path)
    assert next(each for each in moments(process) if each == "loading TensorFlow")
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()

    def states():
        return [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in (process.pid, child)]

    # Who is just starting a process waits in the kernel (D) until that one, which is stopped too, goes on.
    stopped = ["T", "T"], ["T", "D"]
    process.send_signal(signal.SIGTSTP)
    deadline = time.monotonic() + 10
    while states() not in stopped and time.monotonic() < deadline:
        time.sleep(0.02)
    assert states() in stopped
    process.send_signal(signal.SIGCONT)
    while "T" in states() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert "T" not in states()
    assert ended(process, tmp_path, signal.SIGINT) == (130, ["Aborted!"])


def test_a_crash_of_a_library_is_one_line():
    crash = "import os; from lstm_toolkit.runtime.attended import attended; attended(lambda: os.kill(os.getpid(), 11))"
    process = start(way=("-c", crash))
    assert process.communicate(timeout=30) == (b"", b"Error: the command ended with SIGSEGV\n")
    assert process.returncode == 1


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("$T inspect good.tflite >&-", (1, "", "Error: cannot write the output: Bad file descriptor\n")),
        ("$T inspect none.tflite 2>&-", (1, "Error: cannot write the output: Bad file descriptor\n", "")),
        ("$T inspect good.tflite 2>&- | grep -c Interface", (0, "1\n", "")),
        ("$T inspect good.tflite >&- 2>&-", (1, "", "")),
        ("$T inspect good.tflite | true", (1, "", "")),
        ("$T repair good.tflite -o - 2>report | cmp - good.tflite && cat report", None),
        ("$T repair good.tflite -o /dev/stdout --json 2>report | cmp - good.tflite && cat report", None),
        (
            "$T convert good.keras -o no.tflite --progress 2>&-",
            (1, "Error: cannot write the output: Bad file descriptor\n", ""),
        ),
    ],
)
def test_closed_outputs_and_standard_output_as_a_file(folder, line, wanted):
    done = shell(line, folder)
    if wanted is not None:
        assert done == wanted
    else:
        assert (done[0], done[2]) == (0, "")
        assert "hanged" in done[1] or '"changes": []' in done[1]
    assert not (folder / "no.tflite").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("$T repair good.tflite -o full", "cannot write 'full': No space left on device"),
        ("$T plot good.tflite -o full.svg", "cannot write 'full.svg': No space left on device"),
        ("$T inspect good.tflite >full", "cannot write the output: No space left on device"),
        ("$T repair good.tflite -o . ", "cannot write '.': Is a directory"),
        ("$T export good.tflite --no-run -o nowhere", "there is no writable folder '.*nowhere'"),
    ],
)
def test_a_full_disk_is_one_line_and_a_device_stays_one(folder, command, reason):
    for name in ("full", "full.svg"):
        if not (folder / name).exists():
            os.mknod(folder / name, stat.S_IFCHR | 0o666, os.makedev(1, 7))
    before = sorted(os.listdir(folder))
    code, output, errors = shell(command, folder)
    assert (code, output) == (1, "")
    assert re.fullmatch(f"Error: .*{reason}\n", errors), errors
    assert sorted(os.listdir(folder)) == before
    assert stat.S_ISCHR((folder / "full").stat().st_mode)
