"""A process that answers: progress, a time limit, and how it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lstm_toolkit.runtime.worker import WorkerEndedError, WorkerProcess

PROGRAM = """
import os, sys, time
from lstm_toolkit.runtime.worker import limit_memory, serve

def answer(request, progress):
    for number in range(request.get("parts", 0)):
        progress(number + 1)
    if request.get("say"):
        print(request["say"])
        sys.stdout.flush()
    if request.get("end") is not None:
        os._exit(request["end"])
    time.sleep(request.get("sleep", 0))
    if request.get("memory"):
        limit_memory(request.pop("limit"))
        try:
            bytes(request["memory"])
        except MemoryError:
            return "no memory"
    return {"answer": request}

serve(answer)
"""


@pytest.fixture
def process():
    process = WorkerProcess([sys.executable, "-c", PROGRAM])
    yield process
    process.kill()


def test_answers_and_progress(process):
    done = []
    assert process.ask({"parts": 3}, done.append, time_limit=60) == {"answer": {"parts": 3}}
    assert done == [1, 2, 3]
    for words in ("first", "second"):
        assert process.ask({"say": words}) == {"answer": {"say": words}}
        assert process.said() == [words]


def test_the_end_of_the_process_is_no_answer(process):
    with pytest.raises(WorkerEndedError, match=r"^exit code 3; its last line was 'a last line'$"):
        process.ask({"say": "a last line", "end": 3}, time_limit=60)
    with pytest.raises(WorkerEndedError, match=r"^exit code 3$"):
        process.ask({}, time_limit=60)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal for a child process")
def test_control_c_is_for_the_process_that_asks(process):
    assert process.ask({}, time_limit=60) is not None
    os.kill(process.process_id, signal.SIGINT)
    assert process.ask({"sleep": 0.1}, time_limit=60) is not None
    assert process.said() == []


def test_a_time_limit_ends_the_process(process):
    assert process.ask({"sleep": 0}) is not None
    with pytest.raises(TimeoutError, match=r"did not answer in 0\.3 seconds"):
        process.ask({"sleep": 60}, time_limit=0.3)
    assert process.ending() == "SIGKILL"


def test_a_time_limit_holds_for_a_process_that_does_not_even_read():
    process = WorkerProcess([sys.executable, "-c", "import time; time.sleep(5)"])
    with pytest.raises(TimeoutError, match=r"did not answer in 0\.3 seconds"):
        process.ask({"more than a pipe takes": bytes(1 << 20)}, time_limit=0.3)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps a limit of memory")
@pytest.mark.parametrize(("limit", "answer"), [(1 << 30, "no memory"), (None, {"answer": {"memory": 2 << 30}})])
def test_a_memory_limit(limit, answer):
    process = WorkerProcess([sys.executable, "-c", PROGRAM])
    try:
        assert process.ask({"memory": 2 << 30, "limit": limit}, time_limit=60) == answer
        assert process.ask({"memory": 1 << 20, "limit": limit}, time_limit=60) == {"answer": {"memory": 1 << 20}}
    finally:
        process.kill()


FORKING = """
import os, sys, time
from lstm_toolkit.runtime.worker import WorkerProcess

process = WorkerProcess([sys.executable, "-c", sys.argv[1]])
assert process.ask({}, time_limit=30)
if os.fork() == 0:
    process.kill()
    print(process.process_id, process.is_ours, process.is_running(), flush=True)
    time.sleep(60)
time.sleep(0.5)
print(process.is_running(), process.ask({"a": 1}, time_limit=30), flush=True)
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_process_leaves_it_to_the_one_that_started_it():
    """It ends with that one, even if that is killed and the forked one lives on."""
    command = [sys.executable, "-c", FORKING, PROGRAM]
    asking = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        number, *of_fork = asking.stdout.readline().split()
        assert of_fork == ["False", "False"]
        assert asking.stdout.readline() == "True {'answer': {'a': 1}}\n"
        asking.wait(10)
        end = time.monotonic() + 10
        while Path(f"/proc/{number}").exists() and "Z" not in Path(f"/proc/{number}/stat").read_text():
            assert time.monotonic() < end
            time.sleep(0.05)
    finally:
        os.killpg(asking.pid, signal.SIGKILL)
