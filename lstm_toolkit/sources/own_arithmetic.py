"""Finds arithmetic of a user's own below the names of a known class: in a subclass, a mixin, or on the object itself.

A known layer or cell computes what its op computes only if all that its computation goes through is the known class's.
Whether an overridden method changes anything cannot be told, so every one counts.
"""

from typing import Any

from lstm_toolkit.process_state import unreplaced

_HARMLESS = {
    *("__init__", "build", "get_config", "from_config", "compute_output_shape", "compute_mask"),
    # `tf.Module` and `tf_keras` see to their variables there.
    *("__setattr__", "__delattr__"),
}


def overridden(thing: Any, known: type, *, base: type, harmless: frozenset[str] = frozenset()) -> str | None:
    """The first method or property of a known class that an object has another of, as `Class.method`; None if none is.

    Args:
        thing: an object whose class is `known` or derives from it.
        known: the class whose arithmetic is known.
        base: a class below `known`; of what it and its own bases define, only `__call__` counts.
        harmless: further names that do not count.
    """
    names = {
        name
        for cls in known.__mro__
        if cls not in base.__mro__
        for name, value in vars(cls).items()
        if callable(value) or isinstance(value, property)
    }
    names = (names | {"__call__"}) - _HARMLESS - harmless
    cls_of = type(thing)
    for cls in cls_of.__mro__:
        if cls not in known.__mro__:
            for name in vars(cls):
                if name in names:
                    return f"{cls.__name__}.{name}"
    own = (name for name in vars(thing) if name in names and not is_left_by_saving(thing, name))
    return next((f"{cls_of.__name__}.{name}" for name in own), None)


def is_left_by_saving(thing: Any, name: str) -> bool:
    """Whether an attribute of an object is a method of its class, as saving a model of tf_keras leaves them there."""
    own, of_class = unreplaced(vars(thing)[name]), unreplaced(getattr(type(thing), name, None))
    return getattr(own, "__func__", None) is of_class


def overridden_in(module: str, thing: Any, *, base: type) -> str | None:
    """The same as `overridden`, where the known class is the first class of the object that the module defines."""
    known = next(cls for cls in type(thing).__mro__ if cls.__module__ == module)
    return overridden(thing, known, base=base)
