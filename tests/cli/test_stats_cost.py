"""graphlens stats --cost, as people type it."""

from __future__ import annotations

import json

import pytest

from tests.cli.commands import run_cli


def test_rows_hold_all_nodes_and_what_was_measured() -> None:
    done = run_cli("stats", "wasteful", "--set", "n=200", "--cost", "--repeats", "2", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    plain = json.loads(run_cli("stats", "wasteful", "--set", "n=200", "--json").out)

    assert {row["key"]: row["nodes"] for row in found["rows"]} == {row["key"]: row["nodes"] for row in plain["rows"]}
    assert sum(row["backward_ns"] for row in found["rows"]) == found["total"]["backward_ns"] > 0
    # 2·200 + 2 products of 50 FLOPs and 200 + 1 inverses of 250 in the forward pass, and more backward
    assert found["total"]["flops"] > 402 * 50 + 201 * 250
    assert found["not_counted"] == {}
    overhead = found["overhead"]
    assert overhead["ns_a_node"] * 612 / overhead["total_ns"] == overhead["share"]
    # Where other programs interrupt the run the fit may not hold, and then nothing is claimed.
    is_claimed = overhead["fault"] is None and overhead["share_range"][0] >= 0.5
    assert [item["code"] for item in found["findings"]] == ["GL207"] * is_claimed


@pytest.mark.parametrize("by", ["op", "module", "source"])
def test_the_table_fits_the_page(by: str) -> None:
    done = run_cli("stats", "wasteful", "--set", "n=40", "--cost", "--repeats", "1", "--by", by)

    assert done.code == 0, done.err
    assert max(map(len, done.out.splitlines())) <= 80
    assert "bound by" in done.out
    assert "The backward pass takes" in done.out


def test_csv_is_unrounded() -> None:
    lines = run_cli("stats", "efficient", "--cost", "--repeats", "1", "--csv").out.splitlines()

    assert lines[0] == "key,nodes,forward_ns,backward_ns,flops,moved,uncounted,unsized,bound"
    assert lines[-1].startswith("total,14,")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("efficient", "--cost", "--time"), "--cost has a table of its own"),
        (("efficient", "--cost", "--repeats", "0"), "0 is not in the range"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], message: str) -> None:
    done = run_cli("stats", *arguments)

    assert (done.code, done.out) == (2, "")
    assert message in done.err
