"""Whether what the documents name exists: linked files and headings, commands and options, modules and files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from scripts.commands import command_problem

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
INLINE = re.compile(r"`([^`\n]+)`")
HEADING = re.compile(r"^(#+) +(.*)$", re.M)
PACKAGES = (
    "penstock",
    "streams",
    "models",
    "schemas",
    "monitoring",
    "benchmarks",
    "examples",
    "scripts",
    "tests",
    "docs",
)
FILE = re.compile(rf"^(?:{'|'.join(PACKAGES)})/[\w./-]*\w/?$")
MODULE = re.compile(rf"^(?:{'|'.join(PACKAGES)})(?:\.\w+)+$")
# Dotted names that are topics or message headers, not modules.
DURABLE_NAME = re.compile(
    r"^penstock\.(schemas|quarantine|replays|control|status|swaps|audit|events|alerts|alerts\.send|silences|comparisons|retraining|monitor|ready|reason|detail|exception|time|left_out)$"
)
DURABLE_PREFIX = ("penstock.source.", "penstock.deployment", "penstock.replay.")


def anchor(heading: str) -> str:
    """The fragment that renderers give a heading: lower case, words joined by hyphens."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def anchors(text: str) -> set[str]:
    return {anchor(match[2]) for match in HEADING.finditer(FENCE.sub("", text))}


def present_only(text: str) -> str:
    """The text without the sections whose heading says that they come later: these may name what does not exist yet."""
    kept: list[str] = []
    skipping = 0
    for line in text.splitlines(keepends=True):
        if heading := HEADING.match(line):
            level = len(heading[1])
            if skipping and level <= skipping:
                skipping = 0
            if not skipping and "later" in heading[2].lower():
                skipping = level
        if not skipping:
            kept.append(line)
    return "".join(kept)


def link_problems(root: Path, path: Path, text: str) -> Iterator[str]:
    for match in LINK.finditer(FENCE.sub("", text)):
        target, _, fragment = match[1].partition("#")
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        file = (root / path.parent / target) if target else root / path
        if not file.exists():
            yield f"{path}: links to {target}, which does not exist"
        elif fragment and fragment not in anchors(file.read_text(encoding="utf-8")):
            yield f"{path}: links to the heading #{fragment}, which {target or path} does not have"


def shell_lines(text: str) -> Iterator[str]:
    """The commands of the shell blocks of a document, one line each, without prompts and comments."""
    for match in FENCE.finditer(text):
        if match[1] in ("bash", "sh", "console", "shell"):
            for line in match[2].replace("\\\n", " ").splitlines():
                yield re.sub(r"\s#.*$|^[$#] ?", "", line.strip())


def command_problems(root: Path, path: Path, text: str) -> Iterator[str]:
    for line in shell_lines(text):
        for part in re.split(r"&&|\|\||[|;&]", line):
            words = shlex.split(re.sub(r"\s*\d?>.*$", "", part))
            while words and re.match(r"^\w+=", words[0]):
                words.pop(0)
            if words and words[0].removeprefix(".venv/bin/") == "penstock":
                problem = command_problem(words[1:], whole=True)
            elif words and words[0].startswith("scripts/") and not (root / words[0]).exists():
                problem = "no such script"
            else:
                problem = None
            if problem:
                yield f"{path}: `{part.strip()}`: {problem}"


def named_problem(root: Path, name: str) -> str | None:
    """What is wrong with a name in inline code, if it names a command, a file or a module of ours."""
    if name.startswith("penstock "):
        return command_problem([word for word in name.split()[1:] if word not in ("...", "…")], whole=False)
    if FILE.match(name) and not (root / name).exists():
        return "no such file"
    if MODULE.match(name) and not DURABLE_NAME.match(name) and not name.startswith(DURABLE_PREFIX):
        return module_problem(root, name)
    return None


def module_problem(root: Path, name: str) -> str | None:
    """A module by its dotted name, or something that the module's text defines; nothing is imported."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        folder = root.joinpath(*parts[:end])
        source = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
        if source.exists():
            rest = parts[end:]
            known = not rest or re.search(rf"\b{rest[0]}\b", source.read_text(encoding="utf-8"))
            return None if known else f"{'.'.join(parts[:end])} has no {rest[0]}"
    return "no such module"


def document_problems(root: Path, documents: Mapping[Path, str]) -> Iterator[str]:
    """Problems of all documents; `documents` maps paths below the root to their text."""
    for path, text in documents.items():
        yield from link_problems(root, path, text)
        if path.name == "CHANGELOG.md":
            continue  # tells of the past, too
        present = present_only(text)
        yield from command_problems(root, path, present)
        for match in INLINE.finditer(FENCE.sub("", present)):
            if problem := named_problem(root, match[1]):
                yield f"{path}: `{match[1]}`: {problem}"
