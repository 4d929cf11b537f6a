"""Records for reports, and a reader of the page."""

from __future__ import annotations

from html.parser import HTMLParser

from limbeck.record import RunRecord


NASTY = "<script>alert('x')</script>"
ACCURACY = {
    "control": [0.711, 0.732, 0.745],
    "kd": [0.917, 0.9232, 0.941],
    "itrd": [0.7, 0.78, 0.74],
}


class Page(HTMLParser):
    """Collects tags with their attributes, table cells and the text outside of tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.rows = [[" ".join(cell.split()) for cell in row] for row in self.rows]

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if "style" not in self._open:
            self.text.append(data)
        if "td" in self._open or "th" in self._open:
            self.rows[-1][-1] += data

    def row(self, name: str) -> list[str]:
        return next(row for row in self.rows if row and row[0].startswith(name))


def make_record(name: str, seed: int, accuracy: float, **changes) -> RunRecord:
    curves = {
        "loss task": [2.0 - 0.1 * seed, 1.5, 1.25],
        "validation accuracy": [0.4, 0.5 + 0.01 * seed, None],
    }
    if name != "control":
        curves["loss distillation"] = [3.0, 2.0, -1.0]
    fields = {
        "kind": "train" if name == "control" else "distill",
        "status": "finished",
        "seed": seed,
        "command": "limbeck distill recipe.yaml --seeds 3",
        "settings": {"epochs": 3, "loss": name, "student_parameters": 1442, "milestones": [1, 2]},
        "data": {"rows": 100, "class_names": ["zero", NASTY]},
        "teacher": {"test": {"accuracy": 0.9807}, "parameters": 53362},
        "curves": curves,
        "results": {"last": {"test": {"accuracy": accuracy}, "validation": {"accuracy": 0.1}}},
        "time": {"seconds": 3.0 + seed, "share data": 0.25, "share student": 0.75},
        "versions": {"torch": "2.13.0"},
        "hardware": {"cores": 2},
    }
    return RunRecord(**{**fields, **changes})
