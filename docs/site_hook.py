"""What mkdocs does for this site beside Markdown: formulas as MathML, files of the repository.

Pages link to files outside of docs/ (figures and tables of benchmarks, examples) as GitHub wants
them, relative to the page. Here each such file is copied to ``files/`` of the site and the link is
turned there; a folder is named without a link, and the README is the front page.
"""

import posixpath
import re
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files, InclusionLevel


ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?P<mark>!?)\[(?P<text>[^\]]*)\]\((?P<to>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
FORMULA = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
SHOWN_AS_TEXT = {".py", ".jsonl", ".bib", ".toml"}


def outside(page: str, to: str) -> str | None:
    """Return where a link of a page leads in the repository, if it leaves docs/."""
    if re.match(r"[a-z]+:", to) or to.startswith("/"):
        return None
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), to))
    return None if path.startswith("docs/") else path


def copied_to(path: str) -> str:
    """Return the place of a repository's file in the site."""
    ending = ".txt" if Path(path).suffix in SHOWN_AS_TEXT else ""
    return f"files/{path}{ending}"


def formula(latex: str) -> str:
    """Return a formula as MathML; many fonts lack the sign of a difference of sets."""
    return convert(latex.replace(r"\setminus", r"\backslash").strip(), display="block")


def on_files(files: Files, config: dict) -> Files:
    """Add the files outside of docs/ that pages link to."""
    wanted: set[str] = set()
    for file in files.documentation_pages():
        for link in LINK.finditer(Path(file.abs_src_path).read_text("utf8")):
            path = outside(file.src_uri, link["to"])
            if path and path != "README.md" and (ROOT / path).is_file():
                wanted.add(path)
    for path in sorted(wanted):
        files.append(
            File.generated(
                config,
                copied_to(path),
                abs_src_path=str(ROOT / path),
                inclusion=InclusionLevel.NOT_IN_NAV,
            )
        )
    return files


def on_page_markdown(markdown: str, *, page: object, **_: object) -> str:
    """Turn links that leave docs/, and formulas."""
    here = page.file.src_uri

    def turned(link: re.Match[str]) -> str:
        path = outside(here, link["to"])
        if path is None:
            return link[0]
        if (ROOT / path).is_dir():
            return link["text"]
        to = "index.md" if path == "README.md" else copied_to(path)
        there = posixpath.relpath(to, posixpath.dirname(here) or ".")
        return f"{link['mark']}[{link['text']}]({there}{link['anchor'] or ''})"

    if not here.startswith("files/"):
        markdown = LINK.sub(turned, markdown)
    return FORMULA.sub(
        lambda found: f"<div class=formula>{formula(found[1])}</div>",
        markdown,
    )
