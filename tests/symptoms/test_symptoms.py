"""Each symptom is made with the stock tools, found by what they say, and seen and mended as its entry says."""

import re
import shlex
from collections import Counter

import click
import keras
import pytest

import lstm_toolkit
from lstm_toolkit.cli import main
from lstm_toolkit.symptoms import search
from lstm_toolkit.symptoms.entries import SYMPTOMS
from tests.symptoms.reproductions import REPRODUCTIONS


@pytest.fixture
def said(capfd, caplog):
    """What was printed, or logged, since the last time."""

    def said():
        text = "\n".join((*capfd.readouterr(), caplog.text))
        caplog.clear()
        return text

    return said


def run(command, said):
    """Runs a command, and gives what it printed; 3 is its exit code where it found something."""
    name, *arguments = shlex.split(command)
    assert name == "lstm-toolkit"
    said()
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    text = said()
    assert ended.value.code in (None, 0, 3), text
    return text


@pytest.mark.parametrize("symptom", SYMPTOMS, ids=lambda each: each.code)
def test_a_symptom_is_made_found_seen_and_mended(symptom, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = REPRODUCTIONS[symptom.code](said)
    for text in made.texts:
        assert search.explain(text)[:1] == (symptom,), text
    for message in symptom.messages:
        assert any(is_in(message, text) for text in made.texts), (message, made.texts)
    if symptom.see:
        assert symptom.shows in run(symptom.see, said)
    names = {"keras": keras, "lstm_toolkit": lstm_toolkit, **made.names}
    said()
    if symptom.mend.startswith("lstm-toolkit"):
        text = run(symptom.mend, said)
    else:
        exec(symptom.mend.strip(), names)
        text = said()
    made.check(names, text)


def is_in(message, text):
    """Whether a text has a message word by word, but for what ... stands for."""
    parts = [" ".join(part.split()) for part in message.split("...")]
    return re.search(".*?".join(map(re.escape, parts)), " ".join(text.split()))


def test_every_reproduction_has_an_entry():
    assert set(REPRODUCTIONS) == {each.code for each in SYMPTOMS}
    assert len(SYMPTOMS) >= 25


def test_codes_titles_and_messages_are_of_one_entry():
    for values in (
        [each.code for each in SYMPTOMS],
        [each.title for each in SYMPTOMS],
        [message for each in SYMPTOMS for message in each.messages],
    ):
        assert [value for value, count in Counter(values).items() if count > 1] == []


def test_threads_are_threads():
    for each in SYMPTOMS:
        assert each.threads
        for thread in each.threads:
            assert re.fullmatch(r"[\w-]+/[\w-]+(#\d+|/blob/main/[\w./]+)", thread)


def test_commands_in_texts_are_there():
    assert isinstance(main, click.Group)
    for each in SYMPTOMS:
        for command in re.findall(r"lstm-toolkit [^`\n]+", "\n".join((each.see, each.mend, each.meaning, each.after))):
            _, name, *arguments = command.split()
            options = {option for each in main.commands[name].params for option in each.opts}
            assert {argument for argument in arguments if argument.startswith("-")} <= options, command
