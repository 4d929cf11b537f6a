"""From the arguments of ``limbeck certify`` to a certificate, printed and saved."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.checks import ArgumentError, DataError
from limbeck.cli import show
from limbeck.cli.arguments import process_index
from limbeck.cli.held_out import name_of, recipe_beside
from limbeck.cli.material import Material, material_of
from limbeck.cli.parts import model_of
from limbeck.cli.recipe import ModelRecipe, Recipe, read_mapping, recipe_of
from limbeck.cli.records_given import records_given
from limbeck.cli.specs import data_spec, labels_of, model_spec, with_tokenizer
from limbeck.cli.yaml_text import overridden
from limbeck.data import Data
from limbeck.files import check_writable
from limbeck.limits.distance import certificate, comparison
from limbeck.limits.distance.certificate import Certificate
from limbeck.limits.distance.comparison import StudentComparison
from limbeck.records import Records, as_records
from limbeck.teacher_record import TeacherRecord
from limbeck.training.certify import certify
from limbeck.training.comparing import compare_students


_MOST_PROBLEMS = 3  # of the records' faults that are shown


@dataclass(frozen=True)
class Wanted:
    """What was asked for on the command line."""

    student: str
    overrides: list[str]
    records: str
    recipe: str | None
    data: str | None
    folder: Path | None
    part: str
    against: str | None
    trained_on: Path | None
    built_from: Path | None
    deployment: Path | None
    tokenizer: Path | None
    trust: bool
    options: dict[str, Any]


def run_certify(wanted: Wanted, out: Path | None, *, as_json: bool) -> None:
    """Certify or compare, print and save.

    Raises:
        LimbeckError: If something asked for is wrong, or the records hold labels alone.
    """
    _check(wanted)
    records = as_records(records_given(wanted.records)).needed(wanted.records)
    if out is not None:
        check_writable(out)
    material, rows = _data(wanted, records)
    specs = [wanted.student, *([] if wanted.against is None else [wanted.against])]
    recipes = [_model_recipe(spec, wanted) for spec in specs]
    names = labels_of([name_of(recipe) for recipe in recipes])
    students = [model_of(recipe, "student", material) for recipe in recipes]
    options: dict[str, Any] = {
        **wanted.options,
        "trained_on": None if wanted.trained_on is None else _records_at(wanted.trained_on),
        "tokenizer": None if wanted.tokenizer is None else _tokenizer(wanted.tokenizer),
    }
    found: Certificate | StudentComparison
    if len(students) == 2:
        found = compare_students(students[0], students[1], records, rows, names=names, **options)
    else:
        found = certify(
            students[0],
            records,
            rows,
            name=names[0],
            built_from=wanted.built_from,
            deployment=None if wanted.deployment is None else _inputs(wanted.deployment),
            **options,
        )
    _finish(found, wanted, records, material, out, as_json=as_json)


def _finish(
    found: Certificate | StudentComparison,
    wanted: Wanted,
    records: Records,
    material: Material | None,
    out: Path | None,
    *,
    as_json: bool,
) -> None:
    if out is not None and process_index() == 0:
        found.save(out)
    remarks = [str(problem) for problem in records.problems[:_MOST_PROBLEMS]]
    if len(records.problems) > _MOST_PROBLEMS:
        remarks.append(f"{len(records.problems) - _MOST_PROBLEMS} more faults of {wanted.records}")
    if material is not None and wanted.part == "train":
        remarks.append("train rows: what the student memorised looks like agreement")
    where = None if material is None else f"{material.name}, {wanted.part} rows"
    if as_json:
        said = {"data": where, "remarks": remarks, "out": out and str(out)}
        show.say_json({**said, **found.to_dict()})
        return
    for remark in remarks:
        show.say(f"note: {remark}", stderr=True)
    show.warnings(found.warnings)
    _print(found, "" if where is None else f" ({where})")
    if out is not None:
        kind = certificate if isinstance(found, Certificate) else comparison
        show.say(f"{out}: {kind.FILE_NAME}")


def _print(found: Certificate | StudentComparison, where: str) -> None:
    if isinstance(found, Certificate):
        show.table(f"{found.title}{where}", ("", "estimate", "interval is"), found.rows())
        for note in found.notes():
            show.say(note)
        return
    title = f"{found.first} less {found.second}, {found.records} records{where}"
    show.table(title, ("", "estimate", "interval is"), found.rows())
    show.say(found.verdict)
    for reason, count in found.left_out.items():
        show.say(f"left out: {count} {reason}")


def _check(wanted: Wanted) -> None:
    if not wanted.records:
        raise ArgumentError(
            "certify: expected --records, a file of the teacher's answers; got none. Each line is "
            'an object such as {"input": 7, "label": 3, "log_probability": -0.2}.'
        )
    if wanted.recipe is not None and wanted.data is not None:
        raise ArgumentError("certify: expected --data-of or --data; got both. Drop one.")
    if wanted.against is not None:
        given = {"--built-from": wanted.built_from, "--deployment": wanted.deployment}
        for name, value in given.items():
            if value is not None:
                raise ArgumentError(
                    f"certify: expected no {name} beside --against; got {value}. It is about one "
                    "student."
                )


def _records_at(place: Path) -> list[TeacherRecord]:
    return as_records(records_given(place)).records


def _data(wanted: Wanted, records: Records) -> tuple[Material | None, Data | None]:
    """Return the data that indices point into; nothing is loaded where there are none."""
    asked = wanted.data is not None or wanted.recipe is not None or wanted.overrides
    if not asked and not any(isinstance(record.input, int) for record in records):
        return None, None
    where, mapping = _mapping(wanted)
    if isinstance(mapping.get("data"), dict):
        mapping["data"] = with_tokenizer(mapping["data"], wanted.tokenizer)
    material = material_of(_checked(mapping, where, _model(wanted.student)).data)
    rows = getattr(material, wanted.part)
    if rows is None:
        raise DataError(
            f"{material.name}: expected {wanted.part} rows; got none. Use another --set."
        )
    return material, rows


def _mapping(wanted: Wanted) -> tuple[str, dict[str, Any]]:
    if wanted.data is not None:
        mapping = {"data": data_spec(wanted.data, wanted.folder)}
        return "--data", overridden(mapping, wanted.overrides)
    source = wanted.recipe
    if source is None:
        own = recipe_beside(Path(wanted.student)) if Path(wanted.student).is_dir() else None
        if own is None:
            raise ArgumentError(
                f"{wanted.student}: expected data that the records' indices point into; got none. "
                "Give --data or --data-of."
            )
        source = str(own)
    overrides = list(wanted.overrides)
    if wanted.folder is not None:
        overrides.append(f"data.folder={json.dumps(str(wanted.folder))}")
    return source, overridden(read_mapping(source), overrides)


def _checked(mapping: dict[str, Any], where: str, student: dict[str, Any]) -> Recipe:
    kept = {key: value for key, value in mapping.items() if key in ("data", "task", "seed")}
    return recipe_of({**kept, "student": student}, where)


def _model(spec: str) -> dict[str, Any]:
    return model_spec(spec, "STUDENT")


def _model_recipe(spec: str, wanted: Wanted) -> ModelRecipe:
    mapping = _model(spec)
    if "folder" in mapping and wanted.trust:
        mapping["trust"] = True
    # The data of this recipe are not read: it checks the student's fields alone.
    return _checked({"data": {"name": "digits"}}, spec, mapping).student


def _tokenizer(folder: Path) -> Callable[[list[str]], Any]:
    try:
        transformers: Any = importlib.import_module("transformers")
        made = transformers.AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except ModuleNotFoundError as problem:
        raise ArgumentError(
            f"--tokenizer: expected the package transformers ({problem}). pip install "
            "'limbeck[text]'"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as problem:
        first = (str(problem) or type(problem).__name__).splitlines()[0]
        raise ArgumentError(
            f"{folder}: expected a folder with a tokenizer as transformers saves it; {first}."
        ) from None
    return lambda texts: made(texts)["input_ids"]


def _inputs(path: Path) -> list[Any]:
    """Return the inputs of a file: a JSON value a line, or an object that has ``input``."""
    if not path.is_file():
        raise DataError(f"{path}: expected a file of inputs; there is no such file.")
    found: list[Any] = []
    for number, line in enumerate(
        path.read_text(encoding="utf8", errors="replace").splitlines(), 1
    ):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        value = value.get("input") if isinstance(value, dict) else value
        if not _is_input(value):
            raise DataError(
                f"{path}, line {number}: expected an index, a string or a list of token ids as "
                f"JSON; got {line[:60]!r}. Correct this line."
            )
        found.append(value)
    if not found:
        raise DataError(f"{path}: expected at least one input; got none.")
    return found


def _is_input(value: Any) -> bool:
    def is_index(one: Any) -> bool:
        return isinstance(one, int) and not isinstance(one, bool) and one >= 0

    if isinstance(value, list):
        return all(map(is_index, value))
    return isinstance(value, str) or is_index(value)
