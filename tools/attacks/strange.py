"""Strange files through Python and the command line: bombs, lies, devices, links, folders and other formats."""

import io
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from attacks.children import Attack, Outcome, Tell
from attacks.source import one_of

SECONDS = 60.0
"""What a program may take, the start of TensorFlow included."""
DATA = 8 * 2**30
"""Bytes that a process may hold: more would end other programs of the machine."""
MEMORY = 5 * 2**30
"""Bytes of memory above which a file has taken too much."""

PYTHON = """
import sys, lstm_toolkit
from lstm_toolkit.errors import LstmToolkitError
try:
    getattr(lstm_toolkit, sys.argv[1])(sys.argv[2])
except LstmToolkitError as error:
    print(f"Error: {error}", file=sys.stderr)
    raise SystemExit(1)
"""
FUNCTIONS = ("convert", "diagnose", "inspect", "repair", "Runner")
COMMANDS = ("convert", "diagnose", "inspect", "repair", "plot", "export", "bench")


def begin(folder: Path) -> Attack:
    """Each case starts a program of its own."""

    def attack(seed: int, tell: Tell) -> Outcome:
        own = Path(tempfile.mkdtemp(dir=folder, prefix="strange-"))
        try:
            return _attack(np.random.default_rng((seed, 7)), seed, own, folder / "whole", tell)
        finally:
            shutil.rmtree(own, ignore_errors=True)

    return attack


def _attack(random: np.random.Generator, seed: int, own: Path, whole: Path, tell: Tell) -> Outcome:
    name = list(MAKERS)[seed % len(MAKERS)]
    keras_only = name.startswith(("keras", "h5", "saved"))
    path = MAKERS[name](own, whole, random)
    if path is None:
        return Outcome("unjudged", f"{name} cannot be made here")
    if random.random() < 0.5:
        function = one_of(random, *(FUNCTIONS[:2] if keras_only else FUNCTIONS))
        program, way = [sys.executable, "-c", PYTHON, function, str(path)], function
    else:
        command = one_of(random, *(COMMANDS[:2] if keras_only else COMMANDS))
        program = [sys.executable, "-m", "lstm_toolkit", command, str(path)]
        program += ["-o", str(own / "out.tflite")] if command in ("convert", "repair", "export") else []
        program += ["--runs", "1"] if command == "bench" else []
        way = f"lstm-toolkit {command}"
    tell(f"{way}, {name}")
    return run(program)


def run(program: list[str]) -> Outcome:
    """Runs a program, and judges how it ends."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (DATA, DATA))

    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            program, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True, preexec_fn=limit
        )
        end, ended = time.monotonic() + SECONDS, 0
        while not ended and time.monotonic() < end:
            time.sleep(0.02)
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        if not ended:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return Outcome("hang", f"over {SECONDS:g} seconds")
        code = process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read().decode(errors="replace")
    if code < 0:
        return Outcome("crash", f"signal {-code}: {text[-300:]}")
    if "Traceback" in text or code not in (0, 1, 2, 3):
        return Outcome("foreign", f"exit code {code}: {text[-400:]}")
    if usage.ru_maxrss * 1024 > MEMORY:  # of the largest of its processes
        return Outcome("wrong", f"it took {usage.ru_maxrss / 2**20:.1f} GiB of memory")
    return Outcome("refused" if code in (1, 2) else "right", text.strip()[-300:])


def zipped(path: Path, parts: dict[str, bytes]) -> Path:
    """A zip file."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


def parts_of(whole: Path) -> dict[str, bytes]:
    """What is in a sound .keras file."""
    with zipfile.ZipFile(whole / "stacked.keras") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def with_config(own: Path, whole: Path, change: Callable[[Any], Any]) -> Path:
    """A .keras file with another configuration."""
    parts = parts_of(whole)
    config = json.loads(parts["config.json"])
    changed = change(config)
    text = changed if isinstance(changed, str) else json.dumps(config if changed is None else changed)
    return zipped(own / "model.keras", parts | {"config.json": text.encode()})


def changed_everywhere(value: Any, key: str, new: Any) -> None:
    """Gives every entry of a name in nested lists and dicts another value."""
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        changed_everywhere(each, key, new)
    if isinstance(value, dict) and key in value:
        value[key] = new


def bomb(own: Path, whole: Path, part: str, size: int) -> Path:
    """A .keras file with a part of zeros, or of spaces, that are not there when it is zipped."""
    path = own / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in parts_of(whole).items():
            if name != part:
                archive.writestr(name, data)
        with archive.open(part, "w", force_zip64=True) as stream:
            for _ in range(size >> 20):
                stream.write(b" " * 2**20)
    return path


def lying(own: Path, whole: Path, part: str) -> Path:
    """A bomb that says that it is small."""
    path = bomb(own, whole, part, 2**29)
    data = bytearray(path.read_bytes())
    place = data.rfind(part.encode())
    start = data.rfind(b"PK\x01\x02", 0, place)
    data[start + 24 : start + 28] = (1000).to_bytes(4, "little")
    path.write_bytes(data)
    return path


def node(own: Path, name: str, kind: int, number: tuple[int, int] = (0, 0)) -> Path | None:
    """A FIFO or a device."""
    path = own / name
    try:
        os.mknod(path, 0o600 | kind, os.makedev(*number))
        if kind == stat.S_IFCHR:
            os.close(os.open(path, os.O_RDONLY))
    except OSError:
        return None
    return path


def link(own: Path, name: str, target: Path | str) -> Path:
    """A symbolic link."""
    path = own / name
    path.symlink_to(target)
    return path


def written(own: Path, name: str, data: bytes) -> Path:
    """A file."""
    path = own / name
    path.write_bytes(data)
    return path


def units(number: int) -> Callable[[Any], None]:
    return lambda config: changed_everywhere(config, "units", number)


def unrolled(config: Any) -> None:
    changed_everywhere(config, "unroll", True)
    changed_everywhere(config, "batch_shape", [1, 100_000, 5])


def other_class(module: str, name: str) -> Callable[[Any], Any]:
    return lambda config: {"module": module, "class_name": name, "config": {"name": "x"}, "registered_name": None}


def broken_h5(own: Path, whole: Path, random: np.random.Generator) -> Path:
    data = bytearray((whole / "both.h5").read_bytes())
    for place in random.integers(len(data), size=200):
        data[place] ^= 255
    return written(own, "model.h5", bytes(data))


def broken_keras(own: Path, whole: Path, random: np.random.Generator) -> Path:
    parts = parts_of(whole)
    data = bytearray(parts["model.weights.h5"])
    for place in random.integers(len(data), size=100):
        data[place] ^= 255
    return zipped(own / "model.keras", parts | {"model.weights.h5": bytes(data)})


def noise(suffix: str) -> Callable[..., Path]:
    return lambda own, _, random: written(own, f"noise{suffix}", random.bytes(5000))


def saved_folder(own: Path, *_: Any) -> Path:
    (own / "saved" / "variables").mkdir(parents=True)
    written(own / "saved", "saved_model.pb", b"\x08\x01\xff\xff")
    return own / "saved"


def pickled(own: Path, *_: Any) -> Path:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return written(own, "model.keras", buffer.getvalue())


PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 60

Maker = Callable[[Path, Path, np.random.Generator], Path | None]

MAKERS: dict[str, Maker] = {
    "keras: bomb in config.json": lambda own, whole, _: bomb(own, whole, "config.json", 2**31),
    "keras: bomb in the weights": lambda own, whole, _: bomb(own, whole, "model.weights.h5", 2**32),
    "keras: lying bomb": lambda own, whole, _: lying(own, whole, "config.json"),
    "keras: lying weights": lambda own, whole, _: lying(own, whole, "model.weights.h5"),
    "keras: 20,000 units": lambda own, whole, _: with_config(own, whole, units(20_000)),
    "keras: 2^40 units": lambda own, whole, _: with_config(own, whole, units(2**40)),
    "keras: -3 units": lambda own, whole, _: with_config(own, whole, units(-3)),
    "keras: unrolled over 100,000 steps": lambda own, whole, _: with_config(own, whole, unrolled),
    "keras: nested 100,000 deep": lambda own, whole, _: with_config(own, whole, lambda _: "[" * 100_000),
    "keras: config of a list": lambda own, whole, _: with_config(own, whole, lambda _: [1, 2]),
    "keras: config of os.system": lambda own, whole, _: with_config(own, whole, other_class("os", "system")),
    "keras: config of builtins.eval": lambda own, whole, _: with_config(own, whole, other_class("builtins", "eval")),
    "keras: damaged weights": broken_keras,
    "keras: zip of nothing": lambda own, *_: zipped(own / "model.keras", {}),
    "keras: names outside": lambda own, whole, _: zipped(
        own / "model.keras", parts_of(whole) | {"../../outside.txt": b"x", "/tmp/outside-too.txt": b"x"}
    ),
    "keras: numpy objects": pickled,
    "keras: text": lambda own, *_: written(own, "model.keras", b"hello"),
    "h5: damaged": broken_h5,
    "h5: text": lambda own, *_: written(own, "model.h5", b"hello"),
    "saved: not a model": saved_folder,
    "FIFO.keras": lambda own, *_: node(own, "fifo.keras", stat.S_IFIFO),
    "FIFO.h5": lambda own, *_: node(own, "fifo.h5", stat.S_IFIFO),
    "FIFO.tflite": lambda own, *_: node(own, "fifo.tflite", stat.S_IFIFO),
    "zeros without end.tflite": lambda own, *_: node(own, "zero.tflite", stat.S_IFCHR, (1, 5)),
    "zeros without end.keras": lambda own, *_: node(own, "zero.keras", stat.S_IFCHR, (1, 5)),
    "nothing.tflite": lambda own, *_: node(own, "null.tflite", stat.S_IFCHR, (1, 3)),
    "link to a model": lambda own, whole, _: link(own, "link.keras", whole / "stacked.keras"),
    "link to a file": lambda own, whole, _: link(own, "link.tflite", whole / "stacked.tflite"),
    "link to nothing": lambda own, *_: link(own, "dangling.keras", "nowhere.keras"),
    "link to itself": lambda own, *_: link(own, "round.tflite", "round.tflite"),
    "folder": lambda own, *_: own,
    "empty.keras": lambda own, *_: written(own, "empty.keras", b""),
    "empty.h5": lambda own, *_: written(own, "empty.h5", b""),
    "empty.tflite": lambda own, *_: written(own, "empty.tflite", b""),
    "noise.keras": noise(".keras"),
    "noise.h5": noise(".h5"),
    "noise.tflite": noise(".tflite"),
    "picture.tflite": lambda own, *_: written(own, "picture.tflite", PNG),
    "picture.keras": lambda own, *_: written(own, "picture.keras", PNG),
    "a .tflite called .keras": lambda own, whole, _: written(own, "m.keras", (whole / "stacked.tflite").read_bytes()),
    "a .keras called .tflite": lambda own, whole, _: written(own, "m.tflite", (whole / "stacked.keras").read_bytes()),
    "a .keras called .h5": lambda own, whole, _: written(own, "m.h5", (whole / "stacked.keras").read_bytes()),
    "a name with odd text": lambda own, *_: written(own, "a\u202eb\x1b[31m\n.tflite", b"x"),
    "no such file": lambda own, *_: own / "nowhere.tflite",
    "a very long name": lambda own, *_: own / ("x" * 300 + ".keras"),
}
