"""The owner of what all threads of a process share: nothing else in the package changes it, but for the command line.

Most of it is changed for one thread alone, so that the others neither see it nor wait for it: functions of libraries
(`replaced_here`), attributes of their objects (`seen_here`), and log lines (`quiet_here`). The rest is changed under
`alone`, the package's one lock: the descriptor of standard error, the environment, matplotlib's style. Under it also
runs what can run only once at a time. A forked process gets the locks anew.
"""

import contextlib
import contextvars
import dataclasses
import functools
import gc
import importlib
import inspect
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.escapes import printable_lines

Place = tuple[Any, str]
"""What has an attribute (a class, a module or an object), and the name of the attribute."""

_Key = tuple[int, str]

_lock = threading.RLock()
_loading = threading.RLock()
_table = threading.Lock()
"""Guards the tables below for a moment; whoever holds it takes no other lock."""


def alone() -> contextlib.AbstractContextManager[Any]:
    """While it is open, no other thread of the package is between its begin and end; it may be opened in itself."""
    return _lock


@dataclasses.dataclass
class _Shared:
    """An attribute that some threads see otherwise now.

    Attributes:
        owner, name: its place.
        original: what is there otherwise; None for an attribute of the objects of a class.
        standing: what stands there now.
        users: how many want it so.
    """

    owner: Any
    name: str
    original: Any
    standing: Any
    users: int = 0


_shared: dict[_Key, _Shared] = {}
_here: contextvars.ContextVar[Mapping[_Key, Callable[..., Any]]] = contextvars.ContextVar(
    "_here", default=MappingProxyType({})
)


@contextlib.contextmanager
def replaced_here(replacements: Mapping[Place, Callable[[Any], Callable[..., Any]]]) -> Iterator[None]:
    """While it is open, functions are others in this thread, and what they always are in every other one.

    Args:
        replacements: for the place of each function, what makes its replacement of the function itself.
    """
    with contextlib.ExitStack() as stack:
        made = {_key(place): make(stack.enter_context(_standing(place))) for place, make in replacements.items()}
        stack.enter_context(_with_here(made))
        yield


@contextlib.contextmanager
def seen_here(sights: Mapping[Place, Callable[[Any, Any], Any]]) -> Iterator[None]:
    """While it is open, attributes of objects have other values in this thread, and their own in every other one.

    Args:
        sights: for the class of the objects and the name of each attribute, what makes the value that is seen of the
            object and its own value.
    """
    with contextlib.ExitStack() as stack:
        for place in sights:
            stack.enter_context(_standing(place))
        stack.enter_context(_with_here({_key(place): see for place, see in sights.items()}))
        yield


def _key(place: Place) -> _Key:
    return id(place[0]), place[1]


@contextlib.contextmanager
def _with_here(made: Mapping[_Key, Callable[..., Any]]) -> Iterator[None]:
    before = _here.get()
    _here.set({**before, **made})
    try:
        yield
    finally:
        _here.set(before)


@contextlib.contextmanager
def _standing(place: Place) -> Iterator[Any]:
    """While it is open, what stands at a place asks each thread what it wants; yields what is there otherwise."""
    owner, name = place
    with _table:
        shared = _shared.get(_key(place))
        if shared is None:
            original = vars(owner).get(name)
            standing = _Seen(place) if original is None else _asking(place, original)
            shared = _shared[_key(place)] = _Shared(owner, name, original, standing)
            _put(owner, name, standing)
        shared.users += 1
    try:
        yield shared.original
    finally:
        with _table:
            shared.users -= 1
            if not shared.users:
                del _shared[_key(place)]
                # What somebody else has put there since then is his, and comes to the original by way of ours.
                if vars(owner).get(name) is shared.standing:
                    _put(owner, name, shared.original)


def _put(owner: Any, name: str, value: Any) -> None:
    if not isinstance(owner, type) and not inspect.ismodule(owner):
        vars(owner)[name] = value
    elif value is None:
        delattr(owner, name)
    else:
        setattr(owner, name, value)


def _asking(place: Place, original: Callable[..., Any]) -> Callable[..., Any]:
    key = _key(place)

    @functools.wraps(original)
    def function(*arguments: Any, **named: Any) -> Any:
        return _here.get().get(key, original)(*arguments, **named)

    # A layer that another thread makes meanwhile reads it, and tf_keras does not follow __wrapped__.
    function.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]
    function.replaced = original  # type: ignore[attr-defined]
    return function


def unreplaced(function: Any) -> Any:
    """The function itself where what stands in its place, for this thread or another one, is given."""
    return vars(function).get("replaced", function) if inspect.isfunction(function) else function


class _Seen:
    """Stands in a class for an attribute of its objects."""

    def __init__(self, place: Place) -> None:
        self._key, self._name = _key(place), place[1]

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None or self._name not in vars(instance):
            raise AttributeError(f"{type(instance).__name__!r} object has no attribute {self._name!r}")
        value = vars(instance)[self._name]
        see = _here.get().get(self._key)
        return value if see is None else see(instance, value)

    def __set__(self, instance: Any, value: Any) -> None:
        vars(instance)[self._name] = value

    def __delete__(self, instance: Any) -> None:
        del vars(instance)[self._name]


@contextlib.contextmanager
def quiet_here(logger_name: str) -> Iterator[None]:
    """While it is open, a logger drops what this thread logs, but for errors."""
    thread, logger = threading.get_ident(), logging.getLogger(logger_name)

    def is_kept(record: logging.LogRecord) -> bool:
        return record.thread != thread or record.levelno >= logging.ERROR

    logger.addFilter(is_kept)
    try:
        yield
    finally:
        logger.removeFilter(is_kept)


_stderr: int | None = None
"""A descriptor of standard error, while `captured_stderr` has put another file in its place."""


@contextlib.contextmanager
def captured_stderr() -> Iterator[Callable[[], str]]:
    """Keeps what native code prints to standard error from the caller, and yields a function that reads it.

    An error gets it as a note, so that it is shown with the error's traceback.
    """
    global _stderr
    with alone(), tempfile.TemporaryFile() as sink:

        def read() -> str:
            sink.seek(0)
            return sink.read().decode(errors="replace")

        try:
            saved = os.dup(2)
        except OSError:  # there is no standard error
            yield read
            return
        # It may be open already; a fork wants the outermost one.
        outer, _stderr = _stderr, saved if _stderr is None else _stderr
        os.dup2(sink.fileno(), 2)
        try:
            yield read
        except BaseException as error:
            # Python 3.10 has no notes.
            if sys.version_info >= (3, 11) and (said := read().strip()):
                error.add_note(f"On standard error:\n{printable_lines(said)}")
            raise
        finally:
            _stderr = outer
            os.dup2(saved, 2)
            os.close(saved)


_collection_pauses, _collects = 0, True


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """While any thread has it open, Python collects no garbage."""
    global _collection_pauses, _collects
    with _table:
        if not _collection_pauses:
            _collects = gc.isenabled()
        _collection_pauses += 1
        gc.disable()
    try:
        yield
    finally:
        with _table:
            _collection_pauses -= 1
            if not _collection_pauses and _collects:
                gc.enable()


def prepare_tensorflow() -> None:
    """To be called before TensorFlow is used: loads it.

    Raises:
        ConversionError: if TensorFlow cannot be used here, since it was in use when this process was forked.
    """
    if _is_cut_off:
        raise ConversionError(
            "TensorFlow was in use when this process was forked; its threads are missing here, and it would wait for "
            'them forever; start the process by multiprocessing.get_context("spawn"), as in '
            'ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")), or fork it before TensorFlow is used'
        )
    load_tensorflow()


def load_tensorflow() -> None:
    """Imports TensorFlow and Keras: two threads cannot do so at once if each begins with the other one.

    Whoever needs one that cannot be imported gets the error then. TensorFlow prints as it is imported, whatever its log
    level is; that is kept from the caller.
    """
    # Of the two locks this one comes first everywhere. It may be held for minutes, so it is taken where it is needed.
    quiet = contextlib.nullcontext() if "tensorflow" in sys.modules else captured_stderr()
    with quiet, _loading:
        # What a thread outside of the package imports just now is waited for.
        for name in sorted(("keras", "tensorflow"), key=lambda name: name not in sys.modules):
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def _tensorflow_runs() -> bool:
    """Whether TensorFlow has started its threads, which importing it does not."""
    module = sys.modules.get("tensorflow.python.eager.context")
    return getattr(getattr(module, "_context", None), "_initialized", False)


def _has_native_threads() -> bool:
    try:
        return len(os.listdir("/proc/self/task")) > threading.active_count()
    except OSError:  # not on Linux
        return True


_is_cut_off = _tensorflow_runs() and not _has_native_threads()
"""Whether TensorFlow was in use when this process was forked; seen below, or here if the package comes after that."""


def _start_anew() -> None:
    """In a forked process, forgets what the threads that are missing there had in hand."""
    global _lock, _loading, _table, _is_cut_off, _stderr
    _lock, _loading, _table = threading.RLock(), threading.RLock(), threading.Lock()
    _is_cut_off = _is_cut_off or _tensorflow_runs()
    if _stderr is not None:
        os.dup2(_stderr, 2)
        _stderr = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
