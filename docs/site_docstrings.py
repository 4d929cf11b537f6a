"""An extension for griffe, which reads the docstrings: Sphinx's marks as the site can show them.

``Example:`` is a section of doctests (griffe knows the plural), formulas become MathML, and names
become links where a page has them.
"""

import re

from griffe import Extension, Object
from latex2mathml.converter import convert


BLOCK = re.compile(r"^( *)\.\. math::(.*(?:\n\1 +.*|\n *$(?=\n\1 +))*)", re.MULTILINE)
NAME = re.compile(r":(?:func|class|meth|mod|data):`(~?)([^`]+)`")


def formula(latex: str, display: str) -> str:
    """Return a formula as MathML, on one line."""
    found = convert(" ".join(latex.replace(r"\setminus", r"\backslash").split()), display=display)
    return found.replace(' xmlns="http://www.w3.org/1998/Math/MathML"', "")


def shown(text: str) -> str:
    """Return a docstring in Markdown with MathML."""
    text = re.sub(r"^( *)Example:$", r"\1Examples:", text, flags=re.MULTILINE)
    text = BLOCK.sub(lambda m: f"{m[1]}<div class=formula>{formula(m[2], 'block')}</div>", text)
    text = re.sub(r":math:`([^`]+)`", lambda m: formula(m[1], "inline"), text)
    return NAME.sub(_link, text)


def _link(found: re.Match[str]) -> str:
    name = found[2].rsplit(".", 1)[-1] if found[1] else found[2]
    return f'<autoref identifier="{found[2]}" optional><code>{name}</code></autoref>'


class Docstrings(Extension):
    """Rewrite every docstring of the package before it is parsed."""

    def on_object(self, *, obj: Object, **_: object) -> None:
        """Rewrite one object's docstring."""
        if obj.docstring:
            obj.docstring.value = shown(obj.docstring.value)
