"""What the server plays on orders from outside, whatever carries it: many answers at a pace."""

import re
import time
from collections.abc import Iterable
from typing import Final, Protocol

from .bodies import APIS, WORDS

__all__ = ["Answer", "Paced", "asked_for"]

_MODEL: Final = re.compile(rb'"model":\s*"([^"]+)"')


def asked_for(body: bytes) -> str:
    """The model that a request names; "" if it names none."""
    found = _MODEL.search(body)
    return found[1].decode() if found else ""


class Answer(Protocol):
    """An answer that has begun."""

    def send(self, pieces: Iterable[bytes], *, ended: bool = False) -> None:
        """Send what follows, each piece as one of the wire."""


class Paced:
    """The answers of the model "paced": up to the first token, the others to order."""

    def __init__(self) -> None:
        self._answers: dict[Answer, str] = {}  # and the paths that were asked for

    def begin(self, answer: Answer, path: str) -> None:
        """Send what comes at once."""
        self._answers[answer] = path
        answer.send([*APIS[path].opening, APIS[path].token(WORDS[0])])

    def drop(self, answer: Answer) -> None:
        """Send it no more, if it was one of them."""
        self._answers.pop(answer, None)

    def obey(self, order: str) -> int:
        """`/pace/RATE/SECONDS`, each so many tokens a second, or `/finish`.

        Returns:
            How many answers there were.
        """
        number = len(self._answers)
        match order.split("/")[1:]:
            case ["pace", rate, seconds]:
                self._pace(float(rate), float(seconds))
            case _:
                for answer, path in self._answers.items():
                    answer.send(APIS[path].closing, ended=True)
                self._answers.clear()
        return number

    def _pace(self, rate: float, seconds: float) -> None:
        """Evenly, one after the other; the loop waits meanwhile, as its own clock is too coarse."""
        answers = [(answer, [APIS[path].token(WORDS[1])]) for answer, path in self._answers.items()]
        started = time.perf_counter()
        for number in range(round(rate * seconds * len(answers))):
            due = started + number / (rate * len(answers))
            time.sleep(max(0.0, due - time.perf_counter()))
            answer, token = answers[number % len(answers)]
            answer.send(token)
