"""The findings against the corpus: every fault is found at its line, and no sound program is accused."""

from __future__ import annotations

import re
import warnings
from collections import Counter

import pytest

import graphlens
from graphlens.analyses.findings import Finding
from tests.corpus import FAULTY, HEALTHY, Case

LEVELS = {"GL102": "warning", "GL103": "info", "GL104": "warning", "GL108": "warning"}


def findings_of(case: Case) -> tuple[Finding, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return graphlens.trace(case.build(), diagnose=True).findings


def line_of(finding: Finding) -> int | None:
    match = re.search(r":(\d+) \(", finding.where.source)
    return int(match[1]) if match else None


def names_in(finding: Finding, key: str) -> set[str]:
    names = finding.evidence.get(key, [])
    assert isinstance(names, list)
    return set(names)


@pytest.mark.parametrize("case", FAULTY, ids=lambda case: case.name)
def test_a_fault_is_found_where_it_stands(case: Case) -> None:
    findings = findings_of(case)
    right = [finding for finding in findings if finding.code == case.code]

    assert right, f"not found; only {[finding.code for finding in findings]}"
    level = case.level or LEVELS.get(str(case.code), "error")
    assert {finding.level for finding in right} == {level}
    if case.line is not None:
        assert {line_of(finding) for finding in right} <= {case.line, *case.near}
    if case.code == "GL101":
        assert set().union(*(names_in(finding, "lost") for finding in right)) == case.lost
    if case.code == "GL105":
        assert set().union(*(names_in(finding, "leaves") for finding in right)) == case.zero
    beside = {finding.code for finding in findings if finding.level != "info"} - {case.code}
    assert beside <= case.allowed


@pytest.mark.parametrize("case", HEALTHY, ids=lambda case: case.name)
def test_a_sound_program_is_not_accused(case: Case) -> None:
    findings = findings_of(case)

    assert {finding.level for finding in findings} - {"info"} == ({case.level} if case.level else set())
    assert {finding.code for finding in findings} <= case.allowed


WORDS = {
    "scripted_function_detaches": ("the graph where the recorder does not see it", "TorchScript"),
    "detach_under_vmap": (".detach() cuts its result from the graph", "leave out .detach()"),
    "number_is_read_back_from_its_text": ("an f-string or format() hands the value on as text", "keep the computation"),
    "weight_is_a_number_and_every_run_is_another": ("two runs from the same state gave different results", "keep"),
    "reentrant_checkpoint_of_an_input_without_gradient": ("a reentrant checkpoint (opened at", "use_reentrant=False"),
    "force_is_a_gradient_without_a_graph": ("computes a gradient that has no graph of its own", "create_graph=True"),
    "messages_are_added_into_data": ("writes into memory that it was handed through .data", "into the tensor itself"),
    "quantiser_says_that_it_has_no_derivative": ("Quantised.apply returns a result that it marked", "leave out ctx"),
    "head_of_the_target_domain_is_detached": ("target_head.weight and target_head.bias", "if target_head is meant to"),
    "latent_is_sampled_without_its_gradient": ("sample() of a distribution draws without gradients", "use rsample()"),
    "crop_is_cut_out_at_whole_numbers": (".int() to an integer or boolean dtype (called 2 times)", "grid_sample"),
    "images_go_to_numpy_and_come_back_as_a_loss": (".detach() cuts its result", "keep the computation in torch from"),
    "inner_loop_works_on_a_deep_copy": ("copy.deepcopy() (called 2 times) copies the values", "functional_call"),
    "other_images_pass_the_same_projector_detached": (".detach() cuts", "as a generator does in the discriminator's"),
    "features_without_gradient_are_put_beside_their_pixels": ("a block without", "as an actor does whose choice"),
    "heaviside_has_no_derivative": ("derivative for aten::heaviside is not implemented", "an op that torch has"),
    "rows_of_padding_are_set_to_zero_after_the_attention": (".softmax() has NaN in its result", "in place of infinity"),
    "softmax_is_spelt_out_and_overflows": ("torch.exp() makes infinity from inputs without", "the stable form"),
}


@pytest.mark.parametrize("name", WORDS)
def test_what_is_said_of_a_fault(name: str) -> None:
    (case,) = (case for case in FAULTY if case.name == name)
    (finding,) = (item for item in findings_of(case) if item.code == case.code)
    claim, fix = WORDS[name]

    assert claim in finding.claim
    assert fix in finding.fix


def test_the_confusion_matrix(capsys: pytest.CaptureFixture[str]) -> None:
    matrix: Counter[tuple[str, str]] = Counter()
    for case in (*FAULTY, *HEALTHY):
        found = {finding.code for finding in findings_of(case) if finding.level != "info" or finding.code == case.code}
        said = case.code if case.code in found else "nothing" if found <= case.allowed else "another"
        matrix[case.code or "sound", str(said)] += 1
    codes = sorted({case.code for case in FAULTY if case.code})
    with capsys.disabled():
        print("\n\nfault    found  another  nothing")
        for code in codes:
            print(f"{code}  {matrix[code, code]:7}{matrix[code, 'another']:9}{matrix[code, 'nothing']:9}")
        print(f"sound          {matrix['sound', 'another']:9}{matrix['sound', 'nothing']:9}")

    assert sum(matrix[code, code] for code in codes) == len(FAULTY) >= 40
    assert matrix["sound", "nothing"] == len(HEALTHY) >= 40
