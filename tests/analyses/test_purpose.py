"""What becomes of a cut value, from runs of a few calls made by hand: each property is turned by one call."""

from __future__ import annotations

import pytest

from graphlens.analyses.findings import Finding
from tests.analyses.test_connectivity import PLAIN, Run


def level(
    name: str, *, recorded: bool = True, join: str = "torch.sub", head: bool = False, elsewhere: bool = False,
    trained_input: bool = False, same_data: bool = False, average: bool = False, returned: bool = False,
    fed_part: bool = False, beside_input: bool = False,
) -> Finding:  # fmt: skip
    """A net whose weight is lost by a detach, or in a block, meets the result of a trained one of other shapes."""
    run = Run()
    x, other = run.leaf("x", wants=False, role="input"), run.leaf("other", wants=False, role="input")
    lost = run.leaf(f"{name}.weight", "none", shape=(3, 2))
    kept = run.leaf("net.weight", shape=(5, 2))
    last = run.leaf("head.weight", shape=(1, 3))
    read = run.call("torch.relu", kept) if trained_input else x
    if average:
        lost = run.call("Tensor.copy_", lost, kept, made=run.flags[lost], grad=False, written=(lost,))
    if recorded:
        cut = run.call("Tensor.detach", run.call("torch.nn.functional.linear", read, lost), made=PLAIN)
    else:
        cut = run.call("torch.nn.functional.linear", read, lost, made=PLAIN, grad=False)
    mine = run.call("torch.nn.functional.linear", x if same_data else other, kept)
    if beside_input:
        cut = run.call("torch.cat", read, cut, made=PLAIN)
    if head:
        cut = run.call("torch.nn.functional.linear", cut, last)
    mine = run.call("torch.mul", mine, run.call("torch.nn.functional.linear", mine, last) if elsewhere else mine)
    if fed_part:
        mine = run.call("torch.mul", mine, run.leaf(f"{name}.bias", shape=(3,)))
    end = run.call("torch.sum", run.call(join, mine, cut))
    found = run.seen(end, *[cut] * returned, graph=run.graph(("SumBackward0", ["net.weight"])))
    return next(item for item in found.findings if item.code == "GL101")


@pytest.mark.parametrize("name", ["net_b", "ref_model"])
def test_a_detached_module_is_a_fault(name: str) -> None:
    finding = level(name)

    assert finding.level == "error"
    assert ("--ignore-leaf 'ref_model.*'" in finding.fix) == (name == "ref_model")


def test_a_module_run_without_gradients_as_a_whole_stands_still_if_its_name_or_its_data_say_so() -> None:
    assert level("ref_model", recorded=False).level == "info"
    assert level("net_b", recorded=False, same_data=True).level == "info"
    alone = level("net_b", recorded=False)
    assert alone.level == "error"
    assert "if net_b is meant to stand still, net_b.requires_grad_(False), or --ignore-leaf 'net_b.*'" in alone.fix


def test_what_is_trained_does_not_enter_a_module_that_stands_still() -> None:
    assert level("ref_model", recorded=False, trained_input=True).level == "error"


def test_what_is_only_added_is_a_fault_under_any_name() -> None:
    for name in ("ref_model", "teacher", "ema"):
        assert level(name, recorded=False, join="torch.add").level == "error"
        assert level(name, recorded=False, join="torch.mul").level == "info" or name == "ema"
        assert level(name, recorded=False, join="torch.add", average=True).level == "info"


def test_what_is_returned_besides_is_for_somebody() -> None:
    assert level("teacher", recorded=False, join="torch.add", returned=True).level == "info"


def test_a_module_that_is_trained_in_part_does_not_stand_still() -> None:
    for name in ("teacher", "ref_model", "net_b"):
        assert level(name, recorded=False, same_data=True).level == "info"
        assert level(name, recorded=False, same_data=True, fed_part=True).level == "error"


def test_trained_weights_are_applied_to_features() -> None:
    assert level("ref_model", recorded=False, head=True).level == "error"
    assert level("frozen_net", head=True).level == "info"


def test_a_judge_of_other_things_as_well_is_a_discriminator() -> None:
    assert level("maker", recorded=False, head=True, elsewhere=True).level == "info"
    assert level("maker", recorded=True, head=True).level == "error"


def test_where_a_fault_would_run_the_very_same_calls_it_is_a_warning() -> None:
    made = level("maker", recorded=True, head=True, elsewhere=True)
    assert made.level == "warning"
    assert "if maker is meant to stand still, as a generator does in the discriminator's step" in made.fix

    assert level("net_b", recorded=False, same_data=True).level == "info"
    weighed = level("net_b", recorded=False, same_data=True, join="torch.mul")
    assert weighed.level == "warning"
    assert "as a network does whose answer another one learns to give" in weighed.fix
    assert level("net_b", recorded=False, same_data=True, join="torch.add").level == "error"

    aim = level("net_b", same_data=True)
    assert aim.level == "warning"
    assert "as a network does whose answer another one learns to give" in aim.fix
    assert level("net_b", same_data=True, join="torch.add").level == "error"
    assert level("net_b", same_data=True, join="torch.mul").level == "error"  # not compared
    assert level("net_b", same_data=True, trained_input=True).level == "error"

    choice = level("net_b", recorded=False, head=True, beside_input=True)
    assert choice.level == "warning"
    assert "as an actor does whose choice a critic judges" in choice.fix
    assert level("net_b", recorded=False, beside_input=True).level == "error"  # no trained weight judges it
    assert level("net_b", head=True, beside_input=True).level == "error"  # detached
    assert level("net_b", recorded=False, head=True, beside_input=True, trained_input=True).level == "error"


def test_an_average_that_the_pass_itself_moves_needs_no_name() -> None:
    assert level("net_b", average=True).level == "info"
