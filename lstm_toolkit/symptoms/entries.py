"""All symptoms, in the order of the page."""

from lstm_toolkit.symptoms.converting import CONVERTING
from lstm_toolkit.symptoms.loading import LOADING
from lstm_toolkit.symptoms.micro import MICRO
from lstm_toolkit.symptoms.quantizing import QUANTIZING
from lstm_toolkit.symptoms.running import RUNNING
from lstm_toolkit.symptoms.values import Symptom

CHAPTERS = {
    "Loading a model": LOADING,
    "Converting": CONVERTING,
    "Quantizing": QUANTIZING,
    "Running": RUNNING,
    "On a microcontroller": MICRO,
}
"""The symptoms by what one does when they are met."""

SYMPTOMS: tuple[Symptom, ...] = tuple(each for chapter in CHAPTERS.values() for each in chapter)
