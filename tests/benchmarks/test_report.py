"""The page that a comparison becomes: everybody in order, what was missed in bold, nothing that was not measured."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import budget
from benchmarks.contestants import FAUST, JAVA, MLSERVER, OURS, QUIX, RELAXED, STREAMS, everybody
from benchmarks.report import PROMISES, page, write
from benchmarks.sections import panels
from benchmarks.tables import plain
from benchmarks.targets import verdict
from penstock.bench.latency import Latency
from scripts.documents import document_problems
from scripts.project_checks import ROOT, forbidden_problems
from streams.findings import WRONG

LATE = dict.fromkeys(("p50", "p95", "p99"), math.inf) | {"seconds": [], "arrived": 0.4}
NOT_TRIED = LATE | {"arrived": 0.0}
OPTIONS = {"runs": 3, "seconds": 8.0, "scale": 1.0, "only": None}


def late(p95: float) -> dict[str, Any]:
    return {"p50": p95 / 2, "p95": p95, "p99": p95 * 2, "seconds": [p95], "arrived": 1.0}


PARTS: dict[str, Any] = {
    "costs": {
        "options": {"jobs": ["matrix", "mixed"], "rounds": 60, "batches": 25},
        "jobs": {
            "matrix": {
                "everything": 2.0,
                "bytes": 150.4,
                "noise": 0.01,
                "parts": {"profiles": {"cpu": 0.3, "bytes": 4.0}, "lineage": {"cpu": -0.02, "bytes": 110.0}},
            },
            "mixed": {
                "everything": 4.0,
                "bytes": 150.0,
                "noise": 0.04,
                "parts": {"profiles": {"cpu": 0.2, "bytes": 3.0}, "lineage": {"cpu": 0.04, "bytes": 110.0}},
            },
        },
    },
    "growth": {
        "events": [[10_000, 9.0, 90_000.0, 190.0], [1_000_000, 3.0, 400_000.0, 200.0]],
        "features": [[1, 1.5, 800_000.0, 190.0], [1_000, 60.0, 15_000.0, math.nan]],
        "model": [],
    },
    "budget": {
        "options": {"jobs": ["matrix"], "rates": None, "runs": 3, "seconds": 8.0},
        "jobs": {
            "matrix": {
                "1000": {
                    "as soon as possible": {"p95": 6.25, "cpu": 130.0},
                    "latency_ms: 20": {"p95": math.inf, "cpu": math.nan},
                }
            }
        },
    },
    "start": {"options": {"job": "matrix", "runs": 3}, "first_inference": [1.3, 1.1, 1.2], "help": [0.2, 0.1, 0.4]},
    "rollout": {
        "swaps": {
            "options": {"rate": 50_000, "turns": 2, "swaps": 20, "every": 0.75, "kills": 2, "rollbacks": 1},
            "rate": 35_000.0,
            "steady": [{"latency": late(5.0), "lost": 0, "repeated": 0}] * 2,
            "swapping": [{"latency": late(6.0), "lost": 0, "repeated": 0}] * 2,
            "swaps": 22,
            "kills": 2,
            "taken": [0.1, 0.2, 0.12],
            "checked": dict.fromkeys(WRONG, 0) | {"ok": True, "events": 9_000},
            "rolled": [{"command": 510.0, "record": 50.0, "arrival": 20.0, "batches": 0}],
        },
        "shadow": {
            "options": {"shadow-rate": 10_000, "shadow-seconds": 4.0, "turns": 2},
            "p95": {"is not there": [10.0, 11.0, 10.0], "hangs": [10.2, 10.0, 10.3]},
            "ratios": {"hangs": 1.02},
        },
    },
}


def ran(rate: float, told: str = "exact", **more: float) -> dict[str, Any]:
    return {"rate": rate, "cpu": 2.75, "broker_cpu": math.nan, "rss": 201.4, "checked": told} | more


def results() -> dict[str, Any]:
    """Of job A and B, as it is read from a file."""
    matrix = {
        STREAMS: {"backlog": [ran(100_000.0)], "latency": {"10000": [late(100.0)], "100000": [late(900.0)]}},
        OURS: {
            "backlog": [ran(390_000.0), ran(410_000.0), ran(400_000.0)],
            "latency": {"10000": [late(10.0)], "100000": [late(16.0), LATE, late(18.0)]},
        },
        JAVA: {
            "backlog": [ran(320_000.0, "1 lost, 20 reordered")],
            "latency": {"10000": [late(80.0)], "100000": [LATE]},
        },
        MLSERVER: {"backlog": [], "latency": {"10000": [NOT_TRIED], "100000": [NOT_TRIED]}},
        FAUST: {"backlog": [], "latency": {}, "failed": "not within 120.0 s: the first | tenth\nTraceback"},
        RELAXED: {
            "backlog": [ran(380_000.0, "3 repeated")],
            "latency": {"10000": [late(9.0)], "100000": [NOT_TRIED]},
            "failed": "a measured process ended with 1:\nmore",
        },
    }
    told: dict[str, Any] = {
        "machine": {"processor": "A | B", "memory_gib": 16, "packages": {"numpy": "2.4.6"}},
        "jobs": {
            "matrix": {"options": dict(OPTIONS), "events": 1_000_000, "contestants": matrix},
            "image": {
                "options": dict(OPTIONS),
                "events": 120_000,
                "contestants": {
                    OURS: {"backlog": [ran(38_220.0)], "latency": {}},
                    STREAMS: {"backlog": [ran(14_600.0)], "latency": {}},
                },
            },
        },
    }
    return dict(json.loads(json.dumps(told)))


def rows(text: str, heading: str) -> list[list[str]]:
    """The rows of the first table whose head begins so."""
    tables = re.findall(r"(?m)^\| .*\|\n\|[-:|]+\|\n(?:\| .*\|\n)+", text)
    (chosen, *_) = [found for found in tables if found.startswith(f"| {heading} |")]
    return [re.split(r" ?(?<!\\)\| ?", line)[1:-1] for line in chosen.splitlines()]


def commands(text: str) -> list[str]:
    """The commands that the page names, without the one that writes it."""
    (block,) = re.findall(r"(?s)```bash\n(.*?)```", text)
    *measuring, report = block.splitlines()
    assert report == "scripts/bench report results.json"
    return list(measuring)


def test_systems_stand_in_descending_order_of_throughput() -> None:
    head, _, *found = rows(page(results()), "system | events/s")
    assert head[0] == "system"
    assert [row[0].strip("*") for row in found] == [OURS, RELAXED, JAVA, STREAMS, MLSERVER]
    assert found[0] == [f"**{OURS}**", "400,000", "1x", "2.75", "", "201", "exact", "exactly once"]
    assert found[2][:3] == [JAVA, "320,000", "0.8x"]


def test_what_was_wrong_with_outputs_is_told() -> None:
    _, _, *found = rows(page(results()), "system | events/s")
    assert [row[6] for row in found] == ["exact", "3 repeated", "1 lost, 20 reordered", "exact", ""]


def test_a_figure_that_was_not_measured_is_an_empty_cell() -> None:
    _, _, *found = rows(page(results()), "system | events/s")
    assert found[-1][1:-1] == [""] * 6
    assert {row[4] for row in found} == {""}  # of the broker: it is not ours


def test_who_is_late_without_end_does_not_keep_up_and_who_was_not_tried_says_so() -> None:
    _, _, *found = rows(page(results()), "system | 10,000/s")
    assert {name.strip("*"): cells for name, *cells in found} == {
        OURS: ["5 / 10 / 20", "9 / 18 / 36 (1 of 3 runs fell behind)"],
        RELAXED: ["4.5 / 9 / 18", "does not keep up"],  # its throughput made it worth trying, and nothing came
        JAVA: ["40 / 80 / 160", "does not keep up"],
        STREAMS: ["50 / 100 / 200", "450 / 900 / 1,800"],
        MLSERVER: ["does not keep up", "not tried"],  # the first is a rate of those that it is always offered
    }


def test_who_failed_is_listed_with_the_first_line_of_the_reason() -> None:
    text = page(results())
    assert f"- {FAUST}: not within 120.0 s: the first \\| tenth\n" in text
    assert f"- {RELAXED}: a measured process ended with 1\n" in text
    assert f"\n| {FAUST} |" not in text


def test_targets_are_met_or_missed_or_not_measured() -> None:
    _, _, *found = rows(page(results()), "target")
    told = {tuple(row[:3]): row[3:] for row in found}
    assert told["A: events/s", OURS, JAVA] == ["at least 1.3x", "1.25x", "**MISSED**"]
    assert told["A: events/s", OURS, STREAMS] == ["at least 3.5x", "4x", "met"]
    assert told["A: p95 at 100,000/s", OURS, JAVA] == ["at most 0.125x", "the other does not keep up", "met"]
    assert told["A: p95 at 100,000/s", RELAXED, OURS] == ["at most 1x", "does not keep up", "**MISSED**"]
    assert told["A: events/s", OURS, QUIX] == ["at least 8x", "", "not measured"]
    assert told["A: RSS", OURS, "230 MiB"] == ["at most 1x", "0.876x", "met"]
    assert told["B: events/s", OURS, "1,911/s, Crayfish's best"] == ["at least 20x", "20x", "met"]
    assert told["A: outputs", RELAXED, ""] == ["exact", "3 repeated", "**MISSED**"]


def test_neither_keeping_up_is_not_judged() -> None:
    found = results()
    found["jobs"]["matrix"]["contestants"][OURS]["latency"]["100000"] = [LATE]
    _, _, *told = rows(page(found), "target")
    (row,) = (row for row in told if row[:3] == ["A: p95 at 100,000/s", OURS, JAVA])
    assert row[4:] == ["neither keeps up", "not judged"]


def test_the_page_misses_what_the_verdict_misses() -> None:
    _, lines = verdict(results())
    text = page(results())
    missed = sum(line.startswith("MISS") for line in lines)
    assert text.count("**MISSED**") == missed
    assert text.count(f" met, {missed} missed, ") == 2  # on top and above the targets


def test_the_targets_against_the_prototype_are_there_only_when_it_took_part() -> None:
    found = results()
    assert "| prototype |" not in page(found)
    found["jobs"]["matrix"]["contestants"]["prototype"] = {"backlog": [ran(390_000.0)], "latency": {}}
    assert f"| A: events/s | {OURS} | prototype | at least 1.05x | 1.03x | **MISSED** |" in page(found)


def test_what_crayfish_published_stands_beside_ours() -> None:
    _, _, first, *others = rows(page(results()), "engine")
    assert first == ["Kafka Streams with ONNX", "1,619 to 1,911", "20x", f"14,600 ({STREAMS})"]
    assert [row[:2] for row in others] == [
        ["Flink with ONNX", "1,029 to 1,087"],
        ["Spark with ONNX", "259"],
        ["Ray with ONNX", "119"],
    ]
    found = results()
    del found["jobs"]["image"]
    assert "Crayfish (EDBT" not in page(found)


def test_the_machine_and_the_command_are_told() -> None:
    text = page(results())
    assert ["processor", "A \\| B"] in rows(text, "measured on")
    assert ["numpy", "2.4.6"] in rows(text, "measured on")
    asked = "--runs 3 --scale 1 --seconds 8"
    assert commands(text) == [
        f"scripts/bench compare --jobs matrix {asked} --rates 10000 100000 --json results.json",
        f"scripts/bench compare --jobs image {asked} --json results.json",
    ]
    assert "the median of 3 runs" in text


def test_jobs_that_were_compared_alike_share_a_command() -> None:
    found = results()
    for known in found["jobs"].values():
        for told in known["contestants"].values():
            told["latency"] = {}
    assert commands(page(found)) == [
        "scripts/bench compare --jobs matrix image --runs 3 --scale 1 --seconds 8 --json results.json"
    ]


def test_jobs_that_were_compared_on_their_own_tell_so() -> None:
    found = results()
    found["jobs"]["image"]["options"] |= {"runs": 5, "seconds": 4.0, "only": ["Kafka Streams"]}
    text = page(found)
    assert commands(text)[1] == (
        "scripts/bench compare --jobs image --runs 5 --scale 1 --seconds 4 --only 'Kafka Streams' --json results.json"
    )
    assert "the median of 3 to 5 runs" in text
    assert "for 4 to 8 s without the first one" in text
    assert "A backlog of 120,000 events, of which slower systems take a share; 5 runs.\n" in text


def test_what_was_not_measured_has_no_section() -> None:
    headings = re.findall(r"(?m)^## (.*)", page(results()))
    assert [heading for heading in headings if not heading.startswith("Job ")] == ["How it was measured", "Targets"]


def test_what_swaps_and_shadows_cost_is_told_and_judged() -> None:
    text = page(results() | PARTS)
    assert ["p99 without swaps, with swaps", "10, 12"] in rows(text, "ms | median")
    assert ["a rollback, from its command on", "510, at most 510"] in rows(text, "ms | median")
    assert ["that hangs", "10.2", "1.02x"] in rows(text, "a shadow")
    _, _, *found = rows(text, "target")
    told = {row[0]: row[3:] for row in found}
    assert told["A: p99 during swaps to that without"] == ["at most 1.5x", "1.20x", "met"]
    assert told["A: rollback effective after the command"] == ["at most 500 ms", "510, at most 510 ms", "**MISSED**"]
    assert told["A: p95 beside a shadow that hangs to that without one"] == ["below 1.05x", "1.020x", "met"]


def test_what_else_was_measured_has_a_section_and_a_command() -> None:
    text = page(results() | PARTS)
    headings = re.findall(r"(?m)^## (.*)", text)
    swap = "What a swap costs"
    assert headings[3:] == ["What each part costs", "How cost grows", "A latency budget", "Start", swap, "Targets"]
    assert commands(text)[2:] == [
        "scripts/bench growth --json results.json",
        "scripts/bench costs --jobs matrix mixed --rounds 60 --batches 25 --json results.json",
        "scripts/bench budget --jobs matrix --runs 3 --seconds 8 --json results.json",
        "scripts/bench start --job matrix --runs 3 --json results.json",
        "scripts/bench rollout --parts swaps --rate 50000 --turns 2 --swaps 20 --every 0.75 --kills 2 --rollbacks 1 "
        "--json results.json",
        "scripts/bench rollout --parts shadow --shadow-rate 10000 --shadow-seconds 4 --turns 2 --json results.json",
    ]


def test_a_page_of_the_parts_alone_compares_nothing() -> None:
    text = page({"jobs": {}} | PARTS)
    assert "scripts/bench compare" not in text
    assert "## Start\n" in text


def test_each_part_costs_what_it_costs_in_each_job() -> None:
    text = page(results() | PARTS)
    _, _, *found = rows(text, "part")
    assert [row[:7] for row in found] == [
        ["everything", "2.00", "100%", "150", "4.00", "100%", "150"],
        ["profiles", "0.30", "15%", "4", "0.20", "5%", "3"],
        ["lineage", "-0.02", "-1%", "110", "0.04", "1%", "110"],
        ["by chance, +-", "0.01", "0%", "", "0.04", "1%", ""],
    ]
    assert "All of them together, of everything: 15% in job A, 6% in job M.\n" in text


def test_each_curve_has_a_table() -> None:
    text = page(results() | PARTS)
    assert rows(text, "events | CPU us/event")[2:] == [
        ["10,000", "9", "90,000", "190"],
        ["1,000,000", "3", "400,000", "200"],
    ]
    assert rows(text, "features")[2:] == [["1", "1.5", "800,000", "190"], ["1,000", "60", "15,000", ""]]
    assert "bytes of the model |" not in text


def test_the_rate_is_drawn_where_an_event_changes() -> None:
    assert [(grows, measured) for grows, measured, _ in panels(PARTS["growth"])] == [
        ("events", "CPU us/event"),
        ("features", "CPU us/event"),
        ("features", "events/s"),
    ]


def test_budgets_stand_beside_fixed_settings() -> None:
    assert rows(page(results() | PARTS), "job")[2:] == [
        ["A", "1,000/s", "as soon as possible", "6.25", "130"],
        ["A", "1,000/s", "latency\\_ms: 20", "does not keep up", ""],
    ]


def test_what_a_budget_run_found_is_what_the_page_reads() -> None:
    runs = [Latency(1, p95, 2 * p95, [], cpu=80e-6, broker_cpu=40e-6) for p95 in (5.0, 7.0, 9.0)]
    text = page({"jobs": {}, "budget": {"jobs": {"large": budget.told({100: {"as soon as possible": runs}})}}})
    assert rows(text, "job")[2:] == [["L", "100/s", "as soon as possible", "7", "120"]]


def test_the_start_is_told_with_its_bounds() -> None:
    assert rows(page(results() | PARTS), "seconds from the command to")[2:] == [
        ["a worker's first inference", "1.20", "1.30", "2.00"],
        ["`penstock --help`", "0.20", "0.40", "0.30"],
    ]


def test_no_number_that_is_none_is_on_the_page() -> None:
    assert re.findall(r"\b(?i:nan|inf|infinity)\b|None", page(results() | PARTS)) == []


def test_the_page_and_its_plots_are_written_and_the_same_again(tmp_path: Path) -> None:
    first, second = (write(results() | PARTS, tmp_path / name / "docs") for name in "ab")
    assert [path.name for path in first] == [
        "benchmarks.md",
        "throughput-matrix.svg",
        "throughput-image.svg",
        "latency-matrix.svg",
        "growth.svg",
    ]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    page_, *drawn = first
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", page_.read_text())
    assert sorted(pictures) == sorted(f"benchmarks/{path.name}" for path in drawn)
    assert all(b"<svg" in path.read_bytes() for path in drawn)


def test_the_page_passes_the_checks_of_documents(tmp_path: Path) -> None:
    (page_, *_) = write(results() | PARTS, tmp_path / "docs")
    for name in ("benchmarks", "scripts"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "docs" / "architecture.md").symlink_to(ROOT / "docs" / "architecture.md")
    assert list(document_problems(tmp_path, {page_.relative_to(tmp_path): page_.read_text()})) == []
    assert list(forbidden_problems(tmp_path / "docs")) == []


def test_nothing_measured_makes_a_page_without_plots(tmp_path: Path) -> None:
    empty = {"jobs": {"matrix": {"events": 10, "contestants": {FAUST: {"backlog": [], "latency": {}, "failed": ""}}}}}
    assert [path.name for path in write(empty, tmp_path)] == ["benchmarks.md"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("`/ho" + "me/me/.venv/bin/uv pip` ended", "'uv pip' ended"),
        ("no answer from https://index.example/simple, twice", "no answer from an address twice"),
        ("<b> and [x](y)", "\\<b\\> and \\[x\\](y)"),
        ("a" * 300, "a" * 200 + " ..."),
    ],
)
def test_a_reason_is_told_without_paths_and_addresses(text: str, expected: str) -> None:
    assert plain(text) == expected


def test_everybody_has_a_promise() -> None:
    assert {each.name for each in everybody()} <= PROMISES.keys()
