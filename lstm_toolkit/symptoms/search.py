"""Finds the symptoms that a pasted message, or a few words, tell of.

A message is known by its pairs of neighbouring words, since names, paths and numbers in it differ, and since it may
stand anywhere in a long log. Words that are in few of the known messages count for more.
"""

import functools
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import BinaryIO

from lstm_toolkit.symptoms.entries import SYMPTOMS
from lstm_toolkit.symptoms.values import Symptom

LIMIT = 50_000
"""Characters of a text that are looked at, the last ones: a message stands at the end of a log."""

ENOUGH = 0.6
"""Of the weight of a message, or of a few words, that has to be found."""

_LEAST = 6.0
"""Weight that has to be found of a message, which is that of two words that no other message has."""

_LEAST_OF_QUESTION = 5.0
"""Weight that has to be found of a question."""

_FEW = 40
"""Words that may be a question; more of them are a log."""

_BESIDE = 0.9
"""Of the best score, what other symptoms need to be shown too."""

_Score = tuple[float, float]
"""The part that was found, and its weight."""

_NOTHING: _Score = (0.0, 0.0)

_EMPTY_TEXT = """
    about after all am an and any are as at be because been but by can cannot could did do does doing done for from get
    gets getting give gives got had has have having help how if in into is it its just like me my no not of on only or
    our please same should so some still than that the their them then there these they this to too use used using was
    we were what when where which while why will with without work working works would you your error issue problem
    fails failed failing fix solve crash crashes segfault segmentation fault core dumped
"""
_EMPTY = frozenset(word[:5] for word in _EMPTY_TEXT.split())
"""Words of a question that say nothing of its subject."""


def explain(text: str) -> tuple[Symptom, ...]:
    """The symptoms that a text tells of, the likeliest first.

    Args:
        text: a message as it was printed, with as much around it as there is, or a few words; of more than `LIMIT`
            characters, the last ones are looked at.

    Returns:
        One symptom mostly, three at most; none where nothing like it is known.
    """
    words = _words(text[-LIMIT:])
    pairs = {*itertools.pairwise(words)}
    found = {each: max(_of_messages(each, words, pairs), _of_signs(each, words)) for each in SYMPTOMS}
    least = max(ENOUGH, _BESIDE * max(found.values())[0])
    likely = [each for each in SYMPTOMS if found[each][0] >= least]
    return tuple(sorted(likely, key=lambda each: found[each], reverse=True)[:3])


def last_of(stream: BinaryIO) -> str:
    """The last `LIMIT` bytes of a stream as text."""
    kept = b""
    while chunk := stream.read(LIMIT):
        kept = (kept + chunk)[-LIMIT:]
    return kept.decode(errors="replace")


def _words(text: str) -> list[str]:
    """The words of a text, without colours, folders, numbers and single letters."""
    text = re.sub(r"\x1b\[[0-9;]*m", " ", text)
    names = " ".join(re.split(r"[/\\]", each)[-1] for each in text.split())
    found = (word.strip("_") for word in re.findall(r"[a-z_]+[0-9]*", re.sub(r"_[0-9]+\b", "", names.lower())))
    return [word for word in found if len(word) > 1]


def _runs(message: str) -> list[list[str]]:
    """The words of a message, apart where something stands between them that differs."""
    return [words for part in message.split("...") if (words := _words(part))]


def _names(message: str) -> set[str]:
    """The words of a message that are names of ops, types, classes and arguments."""
    return {word for name in re.findall(r"\w*(?:[a-z][A-Z]|[A-Z]{3}|\w_\w)\w*", message) for word in _words(name)}


def _is_of(message: str, words: Sequence[str]) -> bool:
    """Whether a text has the names of a message, or some of them if it is shorter; with others it is another."""
    names, there = _names(message), set(words)
    if len(words) < sum(map(len, _runs(message))):
        return not names or bool(names & there)
    return names <= there


@functools.cache
def _weights() -> dict[str, float]:
    messages = [message for each in SYMPTOMS for message in each.messages]
    return _rareness([{word for run in _runs(message) for word in run} for message in messages])


def _of_messages(symptom: Symptom, words: Sequence[str], pairs: set[tuple[str, str]]) -> _Score:
    return max((_of_message(message, words, pairs) for message in symptom.messages), default=_NOTHING)


def _of_message(message: str, words: Sequence[str], pairs: set[tuple[str, str]]) -> _Score:
    """Which part of a message is in a text, or of the text in the message if the text is the shorter one."""
    if not _is_of(message, words):
        return _NOTHING
    weights, matched, whole = _weights(), 0.0, 0.0
    for run in _runs(message):
        seen = [pair in pairs for pair in itertools.pairwise(run)]
        whole += sum(weights[word] for word in run)
        matched += sum(weights[word] for word, *at in zip(run, [False, *seen], [*seen, False], strict=True) if any(at))
    asked = _weight(weights, words) if len(words) <= _FEW else whole
    return (matched / min(whole, asked), matched) if matched >= _LEAST else _NOTHING


@functools.cache
def _stems() -> dict[Symptom, frozenset[str]]:
    return {each: _asked(_words(" ".join((each.title, *each.signs)))) for each in SYMPTOMS}


@functools.cache
def _weights_of_stems() -> dict[str, float]:
    return _rareness(_stems().values())


def _of_signs(symptom: Symptom, words: Sequence[str]) -> _Score:
    """Which part of a question a symptom's own words are."""
    asked = _asked(words) if len(words) <= _FEW else frozenset()
    matched = _weight(_weights_of_stems(), asked & _stems()[symptom])
    return (matched / _weight(_weights_of_stems(), asked), matched) if matched >= _LEAST_OF_QUESTION else _NOTHING


def _asked(words: Iterable[str]) -> frozenset[str]:
    """Words without their ends, so that "converts" and "conversion" are one, but with their numbers."""
    return frozenset(re.sub(r"^([a-z_]{5})[a-z_]*", r"\1", word) for word in words) - _EMPTY


def _rareness(texts: Iterable[Iterable[str]]) -> dict[str, float]:
    """How rare words are: the logarithm of how many texts there are for each that has the word."""
    kept = [set(each) for each in texts]
    count = Counter(word for each in kept for word in each)
    return {word: math.log(1 + len(kept) / number) for word, number in count.items()}


def _weight(weights: dict[str, float], words: Iterable[str]) -> float:
    """The weight of some words; one that no text has weighs as much as the rarest."""
    unknown = max(weights.values())
    return sum(weights.get(word, unknown) for word in words)
