"""`representative_dataset`: the samples that integer ranges are taken on, in the forms that users have them in."""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Samples = list[dict[str, npt.NDArray[Any]]]

FEWEST_SAMPLES = 20
"""Below this number of samples there is a warning; TensorFlow Lite's guide asks for some hundreds."""

MOST_BEYOND = 0.05
"""Above this share of held-out samples that go beyond a range there is a warning: it is more than chance brings."""

MOST_SAMPLES = 1_000_000
"""A generator that gives more is taken for one that never ends."""

_EMPTY = "representative_dataset is empty; give it some hundred typical inputs"


def read_samples(
    dataset: Any, names: Sequence[str], shapes: Sequence[Sequence[int]], dtypes: Sequence[npt.DTypeLike]
) -> Samples:
    """Reads a representative dataset.

    Args:
        dataset: an array for a model with one input, or a mapping of arrays by input name, each [samples, ...], where
            the rest is the shape of the input, which may leave out a batch of 1; or an iterable of samples, or a
            function without arguments that returns one. A sample is a list of arrays in the order of the inputs, a
            mapping of arrays by input name, or an array for a model with one input.
        names: of the model's inputs.
        shapes: of the inputs; -1 for a size that is open.
        dtypes: of the inputs.

    Returns:
        For each sample the inputs by name, of their dtypes.

    Raises:
        ValueError: if there is no sample, or more than a million; or if a sample has the wrong inputs, another shape or
            dtype, NaN or infinity. The message has the number of the sample.
    """
    samples: Samples = []
    for number, raw in enumerate(_iterate(dataset, names)):
        if number == MOST_SAMPLES:
            raise ValueError(f"representative_dataset does not end after {MOST_SAMPLES:,} samples; let it end")
        arrays = _by_name(raw, names, f"sample {number} of representative_dataset")
        samples.append(
            {
                name: _checked(arrays[name], shape, np.dtype(dtype), f"sample {number}, input {name!r}")
                for name, shape, dtype in zip(names, shapes, dtypes, strict=True)
            }
        )
    if not samples:
        raise ValueError(_EMPTY)
    return samples


def _iterate(dataset: Any, names: Sequence[str]) -> Iterable[Any]:
    if callable(dataset) and not isinstance(dataset, np.ndarray):
        dataset = dataset()
    if isinstance(dataset, np.ndarray) or hasattr(dataset, "__array__"):
        dataset = {names[0]: dataset}
        if len(names) != 1:
            raise ValueError(f"representative_dataset is one array, but the model has the inputs {list(names)}")
    if isinstance(dataset, Mapping):
        arrays = _by_name(dataset, names, "representative_dataset")
        lengths = {name: len(array) for name, array in arrays.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"representative_dataset has different numbers of samples: {lengths}")
        return ({name: arrays[name][n] for name in names} for n in range(next(iter(lengths.values()))))
    if not isinstance(dataset, Iterable) or isinstance(dataset, (str, bytes)):
        raise ValueError(
            "representative_dataset must be an array, a mapping of arrays by input name, or an iterable of samples, "
            f"got {type(dataset).__name__}"
        )
    return dataset


def _by_name(raw: Any, names: Sequence[str], what: str) -> dict[str, npt.NDArray[Any]]:
    if isinstance(raw, Mapping):
        if set(raw) != set(names):
            raise ValueError(f"{what} has the inputs {sorted(map(str, raw))}, and the model {sorted(names)}")
        return {name: np.asarray(raw[name]) for name in names}
    values = list(raw) if isinstance(raw, (list, tuple)) else [raw]
    if len(values) != len(names):
        raise ValueError(f"{what} has {len(values)} inputs, and the model {len(names)}: {list(names)}")
    return {name: np.asarray(value) for name, value in zip(names, values, strict=True)}


def _checked(array: npt.NDArray[Any], shape: Sequence[int], dtype: np.dtype[Any], what: str) -> npt.NDArray[Any]:
    wanted = tuple(shape)
    given = array.shape
    if array.ndim == len(wanted) - 1 and wanted[:1] == (1,):
        array = array[np.newaxis]
    if array.ndim != len(wanted) or any(-1 != size != found for size, found in zip(wanted, array.shape, strict=True)):
        raise ValueError(f"{what} of representative_dataset has shape {list(given)}, expected {list(wanted)}")
    if not np.can_cast(array.dtype, dtype, "same_kind"):
        raise ValueError(f"{what} of representative_dataset is {array.dtype}, expected {dtype}")
    _check_finite(array, f"{what} of representative_dataset")
    # A copy, since a generator may fill one array again and again.
    return np.array(array, dtype, order="C")


def replayable(dataset: Any) -> Any:
    """A dataset that can be read several times, as an iterator cannot be."""
    return _Replayed(dataset) if isinstance(dataset, Iterator) else dataset


class _Replayed(Iterable[Any]):
    """The items of an iterator, which it is asked for only once, and only as far as they are read."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items, self._seen = items, list[Any]()

    def __iter__(self) -> Iterator[Any]:
        yield from self._seen
        for item in self._items:
            # A generator may fill one array again and again.
            self._seen.append(copy.deepcopy(item))
            yield self._seen[-1]


def check_early(dataset: Any, needed_by: str) -> None:
    """Refuses a dataset that cannot be used, before anything slow is done.

    Args:
        dataset: the dataset.
        needed_by: the option that takes ranges on it.

    Raises:
        ValueError: for None, and for arrays that are empty, hold no numbers, or hold NaN or infinity.
    """
    if dataset is None:
        raise ValueError(f"{needed_by} needs representative_dataset: some hundred typical inputs")
    arrays = dataset.values() if isinstance(dataset, Mapping) else [dataset]
    for array in arrays:
        if isinstance(array, np.ndarray):
            if array.size == 0:
                raise ValueError(_EMPTY)
            if array.dtype.kind not in "fiub":
                raise ValueError(f"representative_dataset holds {array.dtype}, expected numbers")
            _check_finite(array, "representative_dataset")


def _check_finite(array: npt.NDArray[Any], what: str) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{what} holds NaN or infinity, of which no range can be taken; leave such samples out")


def warnings_about(calibration: Samples, held_out: Samples) -> list[str]:
    """Doubts about a calibration set: its size, and its ranges compared with those of the held-out samples."""
    found = []
    if len(calibration) < FEWEST_SAMPLES:
        found.append(f"the ranges were taken on {len(calibration)} samples only; give some hundred")
    contents = {_content(sample) for sample in calibration}
    repeated = sum(_content(sample) in contents for sample in held_out)
    if 2 * repeated > len(held_out):
        found.append(
            f"{repeated} of the {len(held_out)} held-out samples are equal to samples that the ranges were taken on, "
            "and tell nothing of others; give each sample once"
        )
    for name in calibration[0]:
        if calibration[0][name].dtype.kind != "f":
            continue
        seen = np.stack([sample[name] for sample in calibration])
        low, high = float(seen.min(initial=np.inf)), float(seen.max(initial=-np.inf))
        if low == high:
            found.append(
                f"input {name!r} is {low:.3g} in all samples that the ranges were taken on, which tells nothing of "
                "other values; give samples in which it changes"
            )
        if not held_out:
            continue
        new = np.stack([sample[name] for sample in held_out])
        outside = float(np.mean((new < low) | (new > high)))
        if outside > 0.01:
            found.append(
                f"{outside:.0%} of the held-out values of input {name!r} are outside of {low:.3g} to {high:.3g}"
            )
        width, new_width = high - low, float(new.max() - new.min())
        if width > 4 * new_width > 0:
            found.append(
                f"the range of input {name!r} is {width / new_width:.0f} times as wide as that of the held-out "
                "samples, so that they use only a part of the 256 numbers"
            )
    return found


def _content(sample: Mapping[str, npt.NDArray[Any]]) -> bytes:
    return b"".join(array.tobytes() for array in sample.values())


def warnings_about_ranges(beyond: int, held_out: int) -> list[str]:
    """A doubt about ranges that more than a few of the held-out samples go beyond.

    Args:
        beyond: the number of those that do.
        held_out: the number of all.
    """
    if beyond < 2 or beyond <= MOST_BEYOND * held_out:
        return []
    return [
        f"{beyond} of the {held_out} held-out samples go beyond the ranges that were taken on the others, and are cut "
        "there; give more samples, of every kind that is to come, in any order"
    ]


def split(samples: Samples, *, in_order: bool) -> tuple[Samples, Samples]:
    """Calibration and held-out samples.

    Args:
        samples: all of them; of fewer than ten none is held out.
        in_order: whether each goes on where the last one ended; then the last fifth is held out, else every fifth.
    """
    if len(samples) < 10:
        return samples, []
    if in_order:
        end = len(samples) - len(samples) // 5
        return samples[:end], samples[end:]
    return [s for n, s in enumerate(samples) if n % 5], [s for n, s in enumerate(samples) if n % 5 == 0]
