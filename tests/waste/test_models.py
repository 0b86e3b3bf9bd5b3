"""What is said of models that we did not write: every claim was read in their source, and none is missed or new.

T5 makes the same causal mask with its position bias, and a contiguous copy of it, in each layer of a stack. Mamba
transposes sequences and features, and right afterwards transposes them back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import graphlens
from graphlens.capture.program import Program, subject_program
from graphlens.proof.prove import prove
from tests.waste.cases import look_into

transformers = pytest.importorskip("transformers")

IDS = torch.arange(8).reshape(1, 8)
TEXT: dict[str, Any] = {"input_ids": IDS, "labels": IDS}
SMALL: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
}  # fmt: skip


def gpt2() -> tuple[torch.nn.Module, dict[str, Any]]:
    config = transformers.GPT2Config(
        n_layer=2, n_head=2, n_embd=16, vocab_size=20, n_positions=8, bos_token_id=0, eos_token_id=0
    )
    return transformers.GPT2LMHeadModel(config), TEXT


def llama() -> tuple[torch.nn.Module, dict[str, Any]]:
    config = transformers.LlamaConfig(**SMALL, num_key_value_heads=1, vocab_size=20, max_position_embeddings=16)
    return transformers.LlamaForCausalLM(config), TEXT


def t5() -> tuple[torch.nn.Module, dict[str, Any]]:
    config = transformers.T5Config(
        d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, vocab_size=20, decoder_start_token_id=0
    )
    return transformers.T5ForConditionalGeneration(config), TEXT


def bert() -> tuple[torch.nn.Module, dict[str, Any]]:
    return transformers.BertForMaskedLM(
        transformers.BertConfig(**SMALL, vocab_size=20, max_position_embeddings=16)
    ), TEXT


def vit() -> tuple[torch.nn.Module, dict[str, Any]]:
    config = transformers.ViTConfig(**SMALL, image_size=16, patch_size=8, num_labels=3)
    pixels = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return transformers.ViTForImageClassification(config), {"pixel_values": pixels, "labels": torch.tensor([1])}


def mamba() -> tuple[torch.nn.Module, dict[str, Any]]:
    config = transformers.MambaConfig(hidden_size=16, num_hidden_layers=2, vocab_size=20, state_size=4)
    return transformers.MambaForCausalLM(config), TEXT


Make = Callable[[], tuple[torch.nn.Module, dict[str, Any]]]
MODELS: tuple[Make, ...] = (gpt2, llama, t5, bert, vit, mamba)

# Code, how often, nodes, and the line, of all GL201 and GL202 that are claimed.
CLAIMS: dict[str, set[tuple[str, int, int, str]]] = {
    "t5": {("GL201", 4, 3, "return position_bias_mask.contiguous()")},
    "mamba": {
        ("GL202", 2, 4, "time_step = self.dt_proj.weight @ time_step.transpose(1, 2)"),
        ("GL202", 2, 2, "hidden_states_B_C.transpose(1, 2),"),
        ("GL202", 2, 4, "B = B.transpose(1, 2)"),
        ("GL202", 2, 4, "C = C.transpose(1, 2)"),
    },
}


def program(make: Make, *, training: bool) -> Program:
    torch.manual_seed(0)
    model, kwargs = make()
    return subject_program(graphlens.Subject(model.train(training), (), kwargs, name=make.__name__))


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_every_claim_is_true(make: Make, training: bool) -> None:
    looked = look_into(program(make, training=training))
    claims = {
        (finding.code, finding.evidence.get("times", finding.evidence.get("pairs")), finding.evidence["nodes"],
         finding.where.text)
        for finding in looked.result.findings
        if finding.code in ("GL201", "GL202")
    }  # fmt: skip

    assert claims == CLAIMS.get(make.__name__, set())


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_the_model_without_what_is_claimed_computes_the_same(make: Make) -> None:
    looked = look_into(program(make, training=False))
    proof = prove(looked.program, looked.trace, looked.tape, looked.result.same, repeats=1)

    assert proof.holds, proof.failures or proof.refusal
    assert proof.comparison is not None
    assert proof.comparison.b.graph is not None
    assert proof.prediction is not None
    assert len(proof.comparison.b.graph) == proof.prediction.nodes == looked.result.left < looked.nodes
    assert proof.comparison.stats_b is not None
    assert proof.comparison.stats_b.total.storage_bytes == proof.prediction.storage_bytes
