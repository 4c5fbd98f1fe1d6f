"""Writes docs/api.md, every public function, module and model with its signature and docstring. `--check` fails where it differs.

python tools/api_page.py [--check]
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pygen
from pygen import data, functional, models, nn, presets

PAGE = Path(__file__).resolve().parent.parent / "docs" / "api.md"
HEAD = """# API reference

Written by tools/api_page.py from the docstrings. The [README](../README.md#api) has one line for each name, and the
pages listed in [docs/README.md](README.md) have longer examples. `N` is the batch, `C` channels, `H` and `W` height and width.

The examples follow `import torch` and `import pygen`, and `tests/test_docstring_examples.py` runs them.

What holds for every function and is left out below:

- `backend`: `"reference"`, `"cpu"`, `"triton"` or `"cuda"`; `None` chooses. Triton and CUDA have not yet run on a GPU.
- A *twin* is the same model in plain PyTorch, with the same `state_dict` keys and methods: the truth in tests and the baseline in
  benchmarks.
- A `TypeError` or `ValueError` says which argument does not fit, what was expected and what came; a `RuntimeError` says why the
  requested backend cannot run.
"""
STANDARD = (
    re.compile(r'^ +backend: "reference", "cpu", "triton", "cuda"; None chooses\..*\n', re.MULTILINE),
    re.compile(r"^ +TypeError, ValueError: an argument does not fit; the message names it\.\n", re.MULTILINE),
    re.compile(r"^ +RuntimeError: the requested backend cannot run; the message says why\.\n", re.MULTILINE),
    re.compile(r"^Raises:\n\s*(?=\Z|^Example:)", re.MULTILINE),
)
PARTS: dict[str, tuple[ModuleType, list[str]]] = {
    "pygen.functional": (functional, list(functional.__all__)),
    "pygen.nn": (nn, list(nn.__all__)),
    "pygen.models": (models, list(models.__all__)),
    "pygen.presets": (presets, ["gan_loss"]),
    "pygen.data": (data, ["ImageData", "digits", "mnist5k"]),
    "pygen": (pygen, ["backends", "explain", "patch", "show_config", "unpatch", "use_backend"]),
}
ENTRY = re.compile(r"(\w[\w, ]*): (.*)")  # at the margin: lines that go on are indented
TABLE = re.compile(r"^=+  .*?^=+  [= ]+\n(?!\w)", re.MULTILINE | re.DOTALL)
UNLISTED = {"extra_repr", "get_extra_state", "reset_parameters", "set_extra_state"}
SECTION = re.compile(r"^(Args|Returns|Raises|Yields|Attributes|Example):\n((?:[ ].*\n?|\n)+)", re.MULTILINE)


def signature(thing: Any, name: str) -> str:
    """Without annotations; on several lines where one would be long."""
    found = inspect.signature(thing)
    plain = [p.replace(annotation=p.empty) for p in found.parameters.values() if p.name != "self"]
    line = str(found.replace(parameters=plain, return_annotation=found.empty))
    if len(name + line) <= 110:
        return name + line
    lines: list[str] = []
    for p in plain:
        if p.kind is p.KEYWORD_ONLY and "*" not in lines and not any(q.startswith("*") for q in lines):
            lines.append("*")
        lines.append(str(p))
    inner = "".join(f"    {each},\n" for each in lines)
    return f"{name}(\n{inner})"


def listed(body: str) -> str:
    """The entries of a section of Google's style as bullets, or its text where it has none; a session as code."""
    lines = inspect.cleandoc(body).splitlines()
    if lines[0].startswith(">>>"):
        return "\n".join(["```pycon", *lines, "```"])
    if not any(ENTRY.match(line) for line in lines):
        return "\n".join(lines)
    out = []
    for line in lines:
        entry = ENTRY.match(line)
        out.append(f"- `{entry[1]}`: {entry[2]}" if entry else f"  {line.strip()}")
    return "\n".join(out)


def text_of(thing: Any) -> str:
    doc = (inspect.getdoc(thing) or "") + "\n"
    for line in STANDARD:
        doc = line.sub("", doc)
    doc = SECTION.sub(lambda m: f"*{'Arguments' if m[1] == 'Args' else m[1]}*\n\n{listed(m[2])}\n\n", doc)
    doc = TABLE.sub(lambda m: f"```text\n{m[0]}```\n", doc)
    doc = re.sub(r"<(?=[a-zA-Z])", "&lt;", doc)  # Markdown would take it for a tag
    return re.sub(r"\n{3,}", "\n\n", doc).strip()


def methods(cls: type) -> list[str]:
    """How an instance is called, and the methods that the class or a base of ours defines."""
    found = []
    for name, member in inspect.getmembers(cls, callable):
        owner = next((base for base in cls.__mro__ if name in vars(base)), object)
        if (
            name.startswith("_")
            or name in UNLISTED
            or inspect.isclass(member)
            or not owner.__module__.startswith("pygen")
        ):
            continue
        doc = inspect.cleandoc(member.__doc__ or "").split("\n\n")[0].replace("\n", " ")
        call = re.sub(r"\(\n +", "(", signature(member, "" if name == "forward" else f".{name}"))
        call = "module" + call if name == "forward" else call
        line = f"- `{call}`".replace(",\n    ", ", ").replace(",\n)", ")")
        if name == "forward":
            found.insert(0, f"{line}{': ' + doc if doc else ', the call'}")
        elif doc:
            found.append(f"{line}: {doc}")
    return found


def entry(module: ModuleType, name: str) -> str:
    thing = getattr(module, name)
    parts = [f"### `{name}`", f"```python\n{signature(thing, name)}\n```", text_of(thing)]
    if inspect.isclass(thing) and (rows := methods(thing)):
        parts += ["*Methods*", "\n".join(rows)]
    return "\n\n".join(part for part in parts if part)


def page() -> str:
    parts = [HEAD]
    for title, (module, names) in PARTS.items():
        parts.append(f"## {title}\n")
        parts += [entry(module, name) + "\n" for name in sorted(names, key=str.lower)]
    return "\n".join(parts)


def main(arguments: list[str]) -> int:
    fresh = page()
    if "--check" in arguments:
        if not PAGE.exists() or PAGE.read_text() != fresh:
            print("docs/api.md is not what the docstrings say: run tools/api_page.py")
            return 1
        return 0
    PAGE.write_text(fresh)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
