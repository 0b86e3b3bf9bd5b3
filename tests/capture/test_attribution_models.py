"""Lines and modules of real models, against anomaly mode's tracebacks and against hooks on single modules."""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import graphlens
from graphlens.capture import program as program_module
from graphlens.capture.attribution import Attribution
from graphlens.capture.module_calls import ModuleStack
from graphlens.capture.program import recorder_of, subject_program
from graphlens.capture.sites import shown_path
from graphlens.capture.walk import walk
from graphlens.lessons import FACTORIES
from graphlens.subject import Subject

# Models


def tokens(*shape: int) -> torch.Tensor:
    return torch.arange(shape[0] * shape[1]).reshape(shape) % 50


def gpt2() -> Subject:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=50, n_positions=16, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=1)
    return Subject(GPT2LMHeadModel(config), kwargs={"input_ids": tokens(2, 6), "labels": tokens(2, 6)})


def llama() -> Subject:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=16,
    )  # fmt: skip
    return Subject(LlamaForCausalLM(config), kwargs={"input_ids": tokens(2, 6), "labels": tokens(2, 6)})


def vit() -> Subject:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=8, patch_size=4
    )
    return Subject(ViTForImageClassification(config), kwargs={"pixel_values": torch.randn(2, 3, 8, 8)})


def t5() -> Subject:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=0)
    return Subject(T5ForConditionalGeneration(config), kwargs={"input_ids": tokens(2, 6), "labels": tokens(2, 6)})


def mamba() -> Subject:
    from transformers import MambaConfig, MambaForCausalLM

    config = MambaConfig(vocab_size=50, hidden_size=16, state_size=4, num_hidden_layers=2)
    return Subject(MambaForCausalLM(config), kwargs={"input_ids": tokens(2, 6), "labels": tokens(2, 6)})


class Own(torch.nn.Module):
    """Calls of every kind from the user's own lines."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = torch.nn.MultiheadAttention(4, 2, batch_first=True)
        self.rnn = torch.nn.GRU(4, 4)
        self.shared = torch.nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.shared(x) + self.attention(x, x, x)[0]
        y[0].mul_(2)
        z = torch.stack([row.softmax(-1) for row in self.rnn(y)[0]])
        z = torch.einsum("ijk,ijl->kl", z, self.shared(z))
        return (
            torch.nn.functional.layer_norm(z, (4,)).sum()
            + z.view(-1)[0] * 2
        )  # fmt: skip


SUBJECTS: dict[str, Callable[[], Subject]] = {
    "gpt2": gpt2,
    "llama": llama,
    "vit": vit,
    "t5": t5,
    "mamba": mamba,
    "own": lambda: Subject(Own(), (torch.randn(2, 3, 4),)),
    **{name: lambda name=name: FACTORIES[name](n=4) for name in ("wasteful", "hoisted", "efficient")},
    **{
        f"soft-threshold {form}": lambda form=form: FACTORIES["soft-threshold"](form=form)
        for form in ("branching", "vectorised")
    },
}

# Lines

Line = tuple[str, int, str]
FRAME = re.compile(r'  File "(.*)", line (\d+), in (.*)\n')
PACKAGE, TORCH = Path(graphlens.__file__).parent, Path(torch.__file__).parent
STANDARD = Path(sysconfig.get_paths()["stdlib"])


def layer(file: str) -> str:
    """Whose code a file is."""
    path = Path(file)
    if path.is_relative_to(PACKAGE) and not path.is_relative_to(PACKAGE / "lessons"):
        return "graphlens"
    if path.is_relative_to(TORCH):
        return "torch"
    if "site-packages" in path.parts:
        return "library"
    return "standard" if path.is_relative_to(STANDARD) or file.startswith("<") else "own"


def expected_line(traceback: list[str]) -> Line | None:
    """The frame to name: the innermost of the user's own; else the innermost of a library; else of torch."""
    found = [match for match in map(FRAME.match, traceback) if match]
    frames = [(match[1], int(match[2]), match[3].strip()) for match in found]
    doors = [k for k, (file, _, name) in enumerate(frames) if file == program_module.__file__ and name == "call_user"]
    if not doors:
        return None
    frames = frames[doors[-1] + 1 :]
    for wanted in ("own", "library", "torch"):
        named = [frame for frame in frames if layer(frame[0]) == wanted]
        # What hands a call over to the recorder, and decorators, are none of torch's layers.
        hidden = ("overrides.py", "_contextlib.py", "grad_mode.py")
        named = [frame for frame in named if wanted != "torch" or not frame[0].endswith(hidden)]
        if named:
            return named[-1]
    return None


def wrong_lines(subject: Subject) -> tuple[int, list[object]]:
    """How many nodes both know, and those for which the recorder names another line than anomaly mode."""
    torch.manual_seed(0)
    program = subject_program(subject)
    with torch.autograd.set_detect_anomaly(True, check_nan=False), recorder_of(program) as recorder:
        made = program.forward()
    attribution = recorder.attribution()
    wrong: list[object] = []
    compared = 0
    nodes = [torch.autograd.graph.get_gradient_edge(tensor).node for tensor in made.roots.values()]
    for node in walk(nodes).functions:
        expected = expected_line(node.metadata["traceback_"])
        number = attribution.origin(node._sequence_nr())[0]
        named = None if number is None else attribution.sources[number]
        if expected is None:
            if named is None or named.line:
                wrong.append((node.name(), named, "made outside the user's code"))
            continue
        compared += 1
        file, line, function = expected
        if named is None or (named.file, named.line) != (shown_path(file), line):
            wrong.append((node.name(), named, expected))
        elif not named.function.endswith(function):
            wrong.append((node.name(), named, function))
    return compared, wrong


# soft-threshold is flat at 0, where it has no graph; the lesson's default input is not.
@pytest.mark.parametrize("name", SUBJECTS)
def test_the_line_is_the_one_that_anomaly_mode_names(name: str) -> None:
    compared, wrong = wrong_lines(SUBJECTS[name]())

    assert wrong == []
    assert compared >= {"soft-threshold vectorised": 1, "soft-threshold branching": 1, "efficient": 10}.get(name, 14)


@pytest.mark.parametrize("fault", ["one number late", "one number early", "the caller's line", "a library is own"])
@pytest.mark.parametrize("name", ["wasteful", "gpt2"])
def test_planted_faults_are_seen(fault: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from graphlens.capture import lane, sites

    real = lane._sequence_number
    number = sites.Sites.number
    if fault == "the caller's line":
        monkeypatch.setattr(sites.Sites, "number", lambda self, frame: number(self, frame.f_back))
    elif fault == "a library is own":
        monkeypatch.setattr(sites, "_TORCH", "/nowhere/")
        monkeypatch.setattr(sites, "_SITES", ())
    else:
        monkeypatch.setattr(lane, "_sequence_number", lambda: real() + (1 if fault == "one number late" else -1))
    if (name, fault) == ("wasteful", "a library is own"):
        pytest.skip("the lesson's lines call torch directly")

    assert wrong_lines(SUBJECTS[name]())[1] != []


# Modules


class Twice(torch.nn.Module):
    """Calls one module under two names, one again inside itself, and one in a list that is no ModuleList."""

    def __init__(self) -> None:
        super().__init__()
        self.left = torch.nn.Linear(3, 3)
        self.right = self.left
        self.tree = Tree()
        self.block = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh(), self.left)
        self.hidden = [torch.nn.Sequential(torch.nn.Linear(3, 3)), torch.nn.Sequential(torch.nn.Linear(3, 3))]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.left(x) + self.right(x) * 2
        x = self.block(self.tree(x, 3))
        for module in self.hidden * 2:
            x = module(x).relu()
        return x.sum()


class Tree(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(3, 3)

    def forward(self, x: torch.Tensor, depth: int) -> torch.Tensor:
        x = self.fc(x)
        if depth:
            x = self(x.tanh(), depth - 1) + self(x, 0)
        return x * 2


class Bracket:
    """One call of a module, seen by hooks on it alone."""

    def __init__(self, module: torch.nn.Module, number: int, first: int) -> None:
        self.module, self.number, self.first, self.end = module, number, first, -1


def hooked(root: torch.nn.Module) -> tuple[list[Bracket], list[Any]]:
    """Hooks on every module of a tree, and of the lists that it keeps to itself."""
    seen: list[Bracket] = []
    handles: list[Any] = []
    calls: dict[torch.nn.Module, int] = {}

    def before(module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        calls[module] = calls.get(module, 0) + 1
        seen.append(Bracket(module, calls[module], torch.autograd._get_sequence_nr()))

    def after(module: torch.nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        mine = [bracket for bracket in seen if bracket.module is module and bracket.end < 0]
        mine[-1].end = torch.autograd._get_sequence_nr()

    for module in everything(root):
        handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        handles.append(module.register_forward_hook(after, with_kwargs=True))
    return seen, handles


def everything(root: torch.nn.Module) -> Iterator[torch.nn.Module]:
    yield from root.modules()
    for kept in getattr(root, "hidden", []):
        yield from kept.modules()


# By a forward pass, or kept in a plain dictionary, so that no hook is on them.
MADE_ON_THE_WAY = ("(CrossEntropyLoss)", "(SiLUActivation)")


def wrong_modules(subject: Subject) -> tuple[int, list[object]]:
    """How many nodes the modules' own hooks know, and those that the recorder puts elsewhere."""
    torch.manual_seed(0)
    root = subject.module
    assert isinstance(root, torch.nn.Module)
    names: dict[torch.nn.Module, set[str]] = {}
    for name, module in root.named_modules(remove_duplicate=False):
        names.setdefault(module, set()).add(name)
    for k, kept in enumerate(getattr(root, "hidden", [])):
        for name, module in kept.named_modules():
            suffix = f"#{k + 1}" if k else ""
            names[module] = {f"({type(kept).__name__}{suffix}){'.' if name else ''}{name}"}
    seen, handles = hooked(root)
    program = subject_program(subject)
    with recorder_of(program) as recorder:
        made = program.forward()
    for handle in handles:
        handle.remove()
    attribution = recorder.attribution()
    wrong: list[object] = []
    known = 0
    nodes = [torch.autograd.graph.get_gradient_edge(tensor).node for tensor in made.roots.values()]
    for node in walk(nodes).functions:
        number = node._sequence_nr()
        around = [bracket for bracket in seen if bracket.first <= number < bracket.end]
        call = attribution.origin(number)[1]
        if call is not None and attribution.calls[call].path.endswith(MADE_ON_THE_WAY):
            call = attribution.calls[call].caller
        if not around:
            if call is not None:
                wrong.append((node.name(), attribution.calls[call], "outside every module"))
            continue
        known += 1
        innermost = around[-1]  # they are in the order of their beginnings
        named = None if call is None else attribution.calls[call]
        paths, kind = names[innermost.module], type(innermost.module).__name__
        if named is None or named.path not in paths or named.kind != kind:
            wrong.append((node.name(), named, paths))
        elif len(paths) == 1 and named.number != innermost.number:
            wrong.append((node.name(), named, innermost.number))
        elif _depth(attribution, call) != len(around):
            wrong.append((node.name(), named, len(around)))
    return known, wrong


def _depth(attribution: Attribution, call: int | None) -> int:
    depth = 0
    while call is not None:
        depth, call = depth + 1, attribution.calls[call].caller
    return depth


MODULES: dict[str, Callable[[], Subject]] = {
    "twice": lambda: Subject(Twice(), (torch.randn(2, 3),)),
    **{name: SUBJECTS[name] for name in ("gpt2", "llama", "vit", "t5", "mamba", "own", "wasteful")},
}


@pytest.mark.parametrize("name", MODULES)
def test_the_module_is_the_one_whose_own_hooks_saw_the_node(name: str) -> None:
    known, wrong = wrong_modules(MODULES[name]())

    assert wrong == []
    assert known > 10


@pytest.mark.parametrize("fault", ["missing pop", "missing push", "one call for all"])
def test_planted_faults_in_modules_are_seen(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if fault == "missing pop":
        monkeypatch.setattr(ModuleStack, "leave", lambda self, module: None)
    elif fault == "missing push":
        enter = ModuleStack.enter
        monkeypatch.setattr(
            ModuleStack, "enter", lambda self, module, first: None if len(self) else enter(self, module, first)
        )
    else:
        enter = ModuleStack.enter

        def forgetful(self: ModuleStack, module: torch.nn.Module, first: int = 0) -> None:
            enter(self, module, first)
            self._counts.clear()

        monkeypatch.setattr(ModuleStack, "enter", forgetful)

    assert wrong_modules(MODULES["twice"]())[1] != []


def test_a_module_with_two_names_has_that_below_its_caller() -> None:
    trace = graphlens.trace(Twice(), torch.randn(2, 3))

    calls = [str(call) for call in trace.graph.calls if call.caller is not None]
    assert calls.count("left") == 2  # as `left` and as `right`
    assert calls.count("block.2") == 1
    assert {"(Sequential).0", "(Sequential#2).0"} <= set(calls)


@pytest.mark.parametrize("name", ["gpt2", "llama", "vit", "t5", "mamba", "own", "wasteful"])
def test_every_node_is_attributed(name: str) -> None:
    torch.manual_seed(0)
    subject = SUBJECTS[name]()

    trace = graphlens.trace(subject, times=True, stacks=True)

    assert trace.graph is not None
    functions = [node for node in trace.graph.nodes if node.kind != "leaf"]
    assert all(node.source is not None and node.forward_ns is not None for node in functions)
    assert not [note for note in trace.notes if "attributed" in note]
    known = [trace.graph.sources[node.source] for node in functions]
    assert all(source.text for source in known if source.line)
