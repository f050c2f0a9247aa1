"""Checks that no linter makes: sizes of modules and functions, strings that do not belong here, true documents.

Run as `python -m scripts.project_checks`. Files are found by walking the tree: a checkout and a tarball
are checked alike.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from scripts.documents import document_problems

ROOT = Path(__file__).resolve().parent.parent
MODULE_LINES = 500
FUNCTION_LINES = 60
NOT_OURS = re.compile(r"^(\..*|__pycache__|build|dist|.*\.egg-info|.*monitor-data|node_modules)$")
KEPT_HIDDEN = {".ci", ".gitignore", ".dockerignore"}
# Written in pieces, so that this file passes its own check.
FORBIDDEN = {
    "a package registry's host": "|".join(
        host + r"\." + domain
        for host, domain in (
            ("pypi", "org"),
            ("pythonhosted", "org"),
            (r"maven\.apache", "org/maven2"),
            (r"repo1?\.maven", "(org|apache)"),
            (r"npm" + "js", "(org|com)"),
            (r"proxy\.golang", "org"),
            ("crates", "io"),
        )
    ),
    "a path of one machine": r"(?<![\w.])/(work|root|home)/(?!\$)[\w.-]+",
    "an unfinished remark": r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b",
}


def files(root: Path) -> Iterator[Path]:
    """Every file of the project, without what tools leave beside it."""
    for path in sorted(root.iterdir()):
        if NOT_OURS.match(path.name) and path.name not in KEPT_HIDDEN:
            continue
        if path.is_dir():
            yield from files(path)
        else:
            yield path


def texts(root: Path) -> Iterator[tuple[Path, str]]:
    """Path below the root and content of every file that is text."""
    for path in files(root):
        try:
            yield path.relative_to(root), path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def function_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, without the docstring."""
    body = function.body
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function) is not None:
        lines -= (body[0].end_lineno or body[0].lineno) - body[0].lineno + 1
    return lines


def size_problems(root: Path) -> Iterator[str]:
    for path, text in texts(root):
        if path.suffix != ".py":
            continue
        if (lines := text.count("\n")) > MODULE_LINES:
            yield f"{path}: {lines} lines, of at most {MODULE_LINES}: split it by idea"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = function_lines(node)
                if lines > FUNCTION_LINES:
                    yield f"{path}:{node.lineno}: {node.name} has {lines} lines, of at most {FUNCTION_LINES}"


def forbidden_problems(root: Path) -> Iterator[str]:
    for path, text in texts(root):
        if path.name == "LICENSE":
            continue
        for what, pattern in FORBIDDEN.items():
            for match in re.finditer(pattern, text):
                line = text.count("\n", 0, match.start()) + 1
                yield f"{path}:{line}: {what} does not belong here: {match[0]}"


def problems(root: Path) -> list[str]:
    """Every problem of the tree, one line each."""
    markdown = {path: text for path, text in texts(root) if path.suffix == ".md"}
    return [*size_problems(root), *forbidden_problems(root), *document_problems(root, markdown)]


def main() -> None:
    found = problems(ROOT)
    print("\n".join(found) if found else "sizes, strings and documents are in order")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
