"""What is known of one symptom."""

import dataclasses
import re
from typing import Any


@dataclasses.dataclass(frozen=True)
class Symptom:
    """A message of the stock tools, or a result that is not what was expected.

    Texts are prose in which single backquotes stand around code. Commands are run as they stand here, in a folder that
    has the files that they name: `model.keras` is the source, `model.tflite` the file that the stock tools made.

    Attributes:
        code: its name in the address of its part of the page.
        title: one line.
        signs: what people say who have no message, one wording each; these are searched, and not shown.
        messages: the messages, as they are printed; ... stands for what differs from case to case.
        meaning: what it means.
        see: the command that shows it in one's own file.
        shows: what is in the output of `see` where the file has it.
        mend: the command that mends it, or lines of Python in which `model` is the source, `x` an input, and `samples`
            are inputs for calibration.
        after: what that changes, or what else helps.
        threads: where it was reported, as owner/repository#number.
    """

    code: str
    title: str
    signs: tuple[str, ...]
    messages: tuple[str, ...]
    meaning: str
    see: str
    shows: str
    mend: str
    after: str
    threads: tuple[str, ...]

    def __post_init__(self) -> None:
        # The sources break lines where they are full.
        for name in ("meaning", "after"):
            object.__setattr__(self, name, re.sub(r"\s+", " ", getattr(self, name)).strip())

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses of the threads."""
        return tuple(f"https://github.com/{each.replace('#', '/issues/')}" for each in self.threads)

    def __str__(self) -> str:
        """All of it for a terminal."""
        parts = [
            self.title,
            self.meaning,
            self.see and f"In your own file, look for {self.shows}:\n    {self.see}",
            "What mends it:\n" + "\n".join(f"    {line}" for line in self.mend.strip().splitlines()),
            self.after,
            "Reported in:\n" + "\n".join(f"    {each}" for each in self.addresses),
        ]
        return "\n\n".join(part for part in parts if part)

    def to_dict(self) -> dict[str, Any]:
        """All of it but what is only searched."""
        return {
            "code": self.code,
            "title": self.title,
            "messages": list(self.messages),
            "meaning": self.meaning,
            "see": self.see,
            "shows": self.shows,
            "mend": self.mend.strip(),
            "after": self.after,
            "threads": list(self.addresses),
        }
