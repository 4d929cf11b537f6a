"""Questions under way, so many at a time; each answer is kept as it comes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from limbeck.asking.answers_file import AnswersFile
from limbeck.asking.endpoint import Endpoint, EndpointError
from limbeck.asking.prompts import AskedForm, Question
from limbeck.checks import LimbeckError
from limbeck.records import Problem


FAILURES = 5  # in a row, after the client's own retries: then the endpoint is gone
Progress = Callable[[int, int], object]


class CollectStopped(LimbeckError):  # noqa: N818 - asked for, not an error
    """A collection that Ctrl-C ended; its answers are kept."""

    signal = 2


def ask_all(
    endpoint: Endpoint,
    answers: AnswersFile,
    wanted: Sequence[Question],
    form: AskedForm,
    concurrency: int,
    progress: Progress | None = None,
) -> list[Problem]:
    """Ask what has no answer yet, and return the questions that failed.

    Raises:
        EndpointError: If the endpoint refuses everybody, or is gone.
        CollectStopped: After Ctrl-C.
    """
    return _InFlight(endpoint, answers, wanted, form, progress).run(concurrency)


class _InFlight:
    """Questions that were sent, and whether more are."""

    def __init__(
        self,
        endpoint: Endpoint,
        answers: AnswersFile,
        wanted: Sequence[Question],
        form: AskedForm,
        progress: Progress | None,
    ) -> None:
        self.endpoint, self.answers, self.form, self.progress = endpoint, answers, form, progress
        missing = [question for question in wanted if question.key not in answers]
        self.missing = iter(missing)
        self.wanted, self.kept = len(wanted), len(wanted) - len(missing)
        self.running: dict[Future[dict[str, Any]], Question] = {}
        self.failed: list[Problem] = []
        self.in_a_row = 0
        self.stop: BaseException | None = None

    def run(self, concurrency: int) -> list[Problem]:
        """Ask until nothing is missing, or something says to stop."""
        with ThreadPoolExecutor(concurrency) as pool:
            while True:
                try:
                    if not self._fill(pool, concurrency):
                        break
                    for future in wait(self.running, return_when=FIRST_COMPLETED).done:
                        self._take(future)
                except KeyboardInterrupt as problem:  # what is under way is paid for: wait for it
                    if isinstance(self.stop, KeyboardInterrupt):
                        raise
                    self.stop = problem
        if self.stop is not None:
            self._raise(self.stop)
        return self.failed

    def _fill(self, pool: ThreadPoolExecutor, concurrency: int) -> bool:
        """Send questions while there is room; return whether any is under way."""
        while self.stop is None and len(self.running) < concurrency:
            question = next(self.missing, None)
            if question is None:
                break
            self.running[pool.submit(self.endpoint.ask, self.form, question.body)] = question
        return bool(self.running)

    def _take(self, future: Future[dict[str, Any]]) -> None:
        # Only what is kept, or has failed, is under way no more: Ctrl-C may come at any line.
        question = self.running[future]
        try:
            if question.key not in self.answers:
                self.answers.add(question.key, self._line(question, future.result()))
            del self.running[future]
        except EndpointError as problem:
            del self.running[future]
            self.failed.append(Problem(question.number, problem.fault, str(problem)))
            self.in_a_row += problem.fault == "passing"
            if problem.fault == "stopped" or self.in_a_row >= FAILURES:
                self.stop = self.stop or problem
            return
        self.in_a_row = 0
        self.kept += 1
        if self.progress is not None:
            self.progress(self.kept, self.wanted)

    def _line(self, question: Question, answer: dict[str, Any]) -> str:
        kept = {
            "key": question.key,
            "draw": question.draw,
            "request": question.body,
            "response": answer,
        }
        return self.endpoint.hide(json.dumps(kept))

    def _raise(self, stop: BaseException) -> None:
        rest = (
            f"{self.kept} of {self.wanted} answers are kept; the same command goes on from there."
        )
        if isinstance(stop, EndpointError):
            raise EndpointError(f"{stop} {rest}", stop.fault, stop.status) from None
        raise CollectStopped(f"collect: stopped. {rest}") from None
