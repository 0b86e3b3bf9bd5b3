"""The codes of findings, and the page on each that `graphlens check --explain CODE` prints."""

from __future__ import annotations

from typing import NamedTuple


class Page(NamedTuple):
    """What a code stands for, how it is found, and the change that mends it, `before` and `after`.

    `cases` are those that it knows, where there is a table of them.
    """

    title: str
    level: str
    text: str
    before: str
    after: str
    cases: tuple[str, ...] = ()


def page_of(code: str) -> Page:
    """The page on a code, with its cases.

    Raises:
        KeyError: there is no such code.
    """
    page = PAGES[code]
    if code == "GL202":
        # Not at the top: the rules' package reads findings, which read this module.
        from graphlens.analyses.redundancy.cancelling import pairs_told

        page = page._replace(cases=tuple(pairs_told()))
    return page


PAGES: dict[str, Page] = {
    "GL101": Page(
        "the graph is cut",
        "error; info for a network that stands still by design, or is frozen for the pass; warning where that is open",
        "A leaf that requires a gradient gets none, because its value leaves the graph on the way to "
        "the loss: by detach or .data, by copying values with torch.tensor, by .item(), .tolist(), "
        ".numpy() or float(), inside no_grad or inference_mode, through an integer or boolean dtype, "
        "or through a custom Function that returns None. Every value of the forward pass is followed "
        "from call to call; what goes through Python arithmetic is followed to the call that handed "
        "it to Python, and that the output still depends on the leaf is then known from running the "
        "program again with the leaf's value changed. Where several calls may be that one, what they "
        "hand on is changed too. Of a value that leaves where Python does not see it, in TorchScript "
        "or under vmap, the last call that was seen is named; and of what could not be measured, as "
        "two runs differ, it is said. A cut is reported only where a leaf loses its last path. It "
        "is information for a module that stands still by design: no parameter of it receives a gradient, "
        "and it has nearly the values of a trained module of the same shapes, or the pass itself writes "
        "those into it; or it was run as a whole without gradients, nothing that is trained loses a path "
        "there, and it is called target, reference or the like, reads the data that a trained module "
        "reads, or gives what a trained module judges beside other things, as a discriminator does; or it "
        "is called teacher, frozen, ema and so on. Such a name does not help where the result is only "
        "added to the loss, so that no gradient depends on it, nor most of them where trained weights are "
        "applied to the result, as to a layer's output. A warning is given where the evidence is "
        "divided, as where a step of a generator's adversary, of a critic or of a network that learns another one's "
        "answer runs the very calls that a fault would run. Layers of one stack are no copies of one "
        "another. requires_grad_(False) or --ignore-leaf says "
        "that a module is to stand still. A parameter that forward freezes and thaws again is taken for "
        "one that this pass is not to train.",
        "loss = torch.tensor([f(v) for v in values]).sum()",
        "loss = torch.stack([f(v) for v in values]).sum()",
    ),
    "GL102": Page(
        "a leaf is made inside forward",
        "warning; info where a gradient of what was handed in is asked for",
        "A call inside the forward pass makes a tensor that requires a gradient and has no history. "
        "Backward fills its .grad, and nobody looks there: the tensor is made anew at the next call. "
        "A leaf whose gradient the forward pass itself asks for, as a gradient penalty does, and one "
        "that a module, a hook or the caller holds after the pass, are not reported; nor one that nothing "
        "is computed from under autograd.",
        "return torch.zeros_like(y, requires_grad=True)",
        "return torch.zeros_like(y)",
    ),
    "GL103": Page(
        "Python decides by a tensor's value",
        "info",
        "Python asks whether a tensor is true: in an if, a while, max() or sorted(). The graph that "
        "comes out depends on the data, so that another input can give another graph, another cost "
        "and other gradients. Assertions, and conditions that do nothing but raise an error, are not "
        "reported.",
        "y = x - T if x > T else zero",
        "y = torch.where(x > T, x - T, zero)",
    ),
    "GL104": Page(
        "a parameter or an input is not used",
        "warning for parameters; info for inputs, and for averages that the pass itself moves",
        "No recorded call reads the leaf, or nothing that was computed from it reaches what is "
        "differentiated, and a changed value does not change the output. Its gradient is None, which "
        "stands for 0. For a parameter that is often a forgotten layer, and DistributedDataParallel "
        "stops over it unless find_unused_parameters is set.",
        "self.head2 = nn.Linear(8, 1)  # never called",
        "remove it, call it, or self.head2.requires_grad_(False)",
    ),
    "GL105": Page(
        "the gradient is 0 by the op's nature",
        "error; warning for a softmax over one entry beside other gradients",
        "Every path from the leaf to the output leads through an op whose derivative torch defines as "
        "0 everywhere (round, sign, floor, ceil, trunc, a rounded division, a random draw), and the "
        "gradient that came out is 0 throughout; or through a softmax or a layer norm over a single entry, "
        "whose result is the same for every input of that shape. A gradient that is 0 for this data alone, as behind "
        "a dead rectifier, is not reported.",
        "q = x.round()",
        "q = x + (x.round() - x).detach()",
    ),
    "GL106": Page(
        "the backward pass cannot run as it should",
        "error; info for outputs that share nothing",
        "What is differentiated has no backward graph; or backward() raised: because a tensor that it "
        "needs was written over in place after it was saved, because part of the graph was freed by "
        "an earlier backward pass, or because an op has no derivative. Outputs whose graphs share no "
        "node are mentioned as information.",
        "h = self.cell(x, self.h); self.h = h",
        "h = self.cell(x, self.h.detach()); self.h = h",
    ),
    "GL107": Page(
        "NaN or infinity",
        "error",
        "The result, or the gradient of a leaf, is not finite. The program is run once more from the "
        "same state, with every call (or every node of the backward pass) watched: the first one that "
        "makes NaN, or else infinity, out of numbers without is named, with the range of its inputs; "
        "if it makes NaN of infinity, so is the call that made that. An input, a parameter or a buffer "
        "that was not finite before is told as that. Infinite entries that were asked for, as in an "
        "attention mask, are not reported.",
        "torch.where(x > 0, x.sqrt(), zero)",
        "torch.where(x > 0, x.clamp(min=eps).sqrt(), zero)",
    ),
    "GL108": Page(
        "a parameter that the module does not list",
        "warning; info for a single module in a list",
        "A leaf that requires a gradient takes part in the forward pass, and the module keeps it as a plain tensor; or "
        "it keeps it, or the layer that it belongs to, in a plain list, tuple or dictionary. It may well receive a "
        "gradient; but module.parameters() does not give it, so that "
        "an optimizer made of that does not train it, .to() does not move it, and state_dict() does not save it. "
        "A list of one module is how a module is hidden on purpose, and is information.",
        "self.layers = [nn.Linear(4, 4) for _ in range(3)]",
        "self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))",
    ),
    "GL201": Page(
        "the same value is computed again",
        "warning",
        "Every op of the forward pass is numbered by what it computes from what: the same op with the same "
        "arguments on the same values gives the same value again. Random ops are never equal, and a tensor that is "
        "written to has another value afterwards. Before it is said, the values are compared to the last bit. Ops "
        "that run without a gradient, and views, are left out.",
        "for _ in range(n): y = torch.linalg.inv(A) @ y",
        "A_inverse = torch.linalg.inv(A)  # before the loop",
    ),
    "GL202": Page(
        "work that other work undoes",
        "warning; info for views that undo one another",
        "An op and the one after it give back what went in: a product with a matrix and with its inverse, exp and "
        "log, adding and subtracting the same tensor, two transposes, a cast and its way back where no number is "
        "lost. Chains of such pairs collapse. Before it is said, the values are compared, up to the rounding of the "
        "ops (for an inverse it grows with the condition of the matrix), and the ops are run again on other numbers.",
        "y = A @ y; y = torch.linalg.inv(A) @ y",
        "y",
    ),
    "GL203": Page(
        "an inverse that is only multiplied with",
        "info",
        "The inverse of a matrix is formed, and nothing but products is done with it. Factorising the matrix and "
        "solving with it takes about a third of the operations of the inverse, and rounds less.",
        "torch.linalg.inv(A) @ b",
        "torch.linalg.solve(A, b)",
    ),
    "GL204": Page(
        "one value is kept for backward several times",
        "info",
        "Nodes keep tensors with the same numbers in different storages: a tensor and its clone, or a constant that "
        "is made anew in each round. Before it is said, the tensors are compared to the last bit, and the copies must "
        "be at least a hundredth of all that is kept. What is computed twice is GL201; views of one storage are one.",
        "y = x.exp(); z = y.clone().sin() + y",
        "y = x.exp(); z = y.sin() + y",
    ),
    "GL205": Page(
        "a loop over the entries of a tensor",
        "info",
        "A tensor is taken apart, each part goes through elementwise ops of its own, and the results are put together "
        "again. Each of these ops is a node with a few microseconds of overhead in each pass; ops on the whole tensor "
        "do the same in a few nodes. Loops whose parts depend on each other are not reported.",
        "torch.stack([f(v) for v in values])",
        "f(values)",
    ),
    "GL206": Page(
        "a product in a dear order",
        "warning",
        "A product of three matrices or vectors can be formed in two orders, and the other one takes at most half of "
        "the floating-point operations. The product that is formed first is used for nothing else.",
        "(A @ B) @ v",
        "A @ (B @ v)",
    ),
    "GL207": Page(
        "the time goes into the number of nodes",
        "info",
        "Every node costs the engine, the dispatcher and Python a few microseconds before it computes "
        "anything. That part is told from work by a fit over the nodes: time = slope × nodes + factor × what "
        "their arithmetic and memory traffic need at this machine's measured peak. It is robust (calls off by "
        "more than a factor of 4 are left out, and counted), and says nothing where it does not hold. The "
        "slope times the number of nodes is at least half of what the nodes take.",
        "for k in range(n): y[k] = f(x[k])",
        "y = f(x)",
    ),
    "GL301": Page(
        "how the error grows over a loop",
        "warning where three digits or more are lost, else info",
        "Of a loop of at least 8 rounds in which each reads what the one before it made, the error is known "
        "after every round, or after some of many. What comes in is propagated with the derivatives of the "
        "ops, and so taken apart: errors of values that are the same in all rounds come in again and again "
        "(systematic: they add up like n), roundings that differ from round to round come to √n times one of "
        "them if their signs are random, and to more if they lean to one side (drift). Of rounds that multiply by "
        "a computed inverse X and by A the prediction n·‖R y‖ with R = X A − I is the first order of (I + R)ⁿ y − y "
        "(on this residual: Higham 2002, chapter 14). Where the floats repeat to the last bit, growth is frozen, or "
        "stalled where the truth moves on; where a round enlarges a small change, the error is "
        "amplified, by a factor per round. Loops that lessen it are not reported, nor growth like √n over "
        "less than 100 rounds.",
        "for _ in range(n): y = torch.linalg.inv(A) @ (A @ y)",
        "y",
    ),
    "GL302": Page(
        "a gradient that is noise",
        "warning",
        "No digit of a gradient is right: its true value is 0 or is as far off as it is large. Where a leaf "
        "receives it in several parts, these are listed by the ops that sent them, with what their sum leaves "
        "of their magnitudes. Where true values are not known, it is reported if the sum leaves no more than "
        "its additions round away, or if runs that round otherwise agree in no digit.",
        "loss = f(A_inverse @ (A @ x))",
        "loss = f(x)",
    ),
    "GL303": Page(
        "an ill-conditioned inverse or solve",
        "warning; error if a result keeps no digit",
        "An inverse, a factorisation or a solution with a matrix A may enlarge a relative error by its condition "
        "number κ₂(A) = σ_max ÷ σ_min, and rounds by up to some κ·u itself (Higham, Accuracy "
        "and Stability of Numerical Algorithms, 2002, sections 7.1 and 14.1). κ is computed from the singular "
        "values; the errors of what goes in and of what comes out are measured against exact values. It is reported"
        " where the op did lose digits, a result of the run has lost at least three, and at least a tenth of that "
        "result's error comes through the op. An ill-conditioned matrix that did no harm is not reported.",
        "w = torch.linalg.inv(X.T @ X) @ (X.T @ y)",
        "w = torch.linalg.lstsq(X, y).solution",
    ),
    "GL304": Page(
        "cancellation",
        "warning; error if a result keeps no digit",
        "Terms of a sum, a difference or a product of matrices are much larger together than what is left of them: "
        "Σ |terms| ÷ |Σ terms| is at least 100, and of n terms 30·√n. The errors of the terms stay as they are, and"
        " are large beside the small result (Higham 2002, section 1.7). The relative errors before and after are "
        "measured against exact values. It is reported where at least one digit was lost there, a result of the run"
        " has lost at least three, and at least a tenth of its error comes through the entries that cancelled. A "
        "difference of exact numbers loses nothing, and is not reported.",
        "(1 - torch.cos(x)) / x**2",
        "2 * (torch.sin(x / 2) / x)**2",
    ),
    "GL305": Page(
        "a small addend is lost",
        "warning; error if a result keeps no digit",
        "One of two terms is so much smaller than the other that at least half of its bits do not fit into the sum."
        " That costs the sum one rounding, and the small term nearly all; it is reported where a result of the run "
        "has lost at least three digits, and at least a tenth of its error was made by these additions.",
        "torch.log(1 + x)",
        "torch.log1p(x)",
    ),
    "GL306": Page(
        "overflow, underflow, saturation",
        "error for infinities, NaN and results without a right digit; else warning",
        "A number leaves the range of its format: the run has infinity or NaN where the true value is finite, 0 or "
        "a subnormal number where it is not and more than roundoff is lost, or exactly 1 where what is missing to 1"
        " was needed later. It is reported where it makes a result of the run infinite, NaN or 0, or at least a "
        "tenth of its error. Where the true value itself is infinite, nothing is reported here; see GL107.",
        "torch.log(torch.softmax(x, -1))",
        "torch.log_softmax(x, -1)",
    ),
    "GL307": Page(
        "a cast to a narrower format makes the error",
        "warning; info for float16 and bfloat16, which somebody chose",
        "A tensor is rounded to a format with fewer bits, and of all ops of the run the casts on that line make the"
        " largest part of a result's error; the result has lost at least three digits of its own format.",
        "x = x.float()  # the rest is float64",
        "x",
    ),
    "GL308": Page(
        "two runs of the same program differ",
        "warning; info if no output and no gradient differs",
        "The program is run twice from the same state: parameters, buffers, what modules hold, and the generators of "
        "torch, NumPy and Python are put back. All values of both runs are compared bit by bit. Named is the first op "
        "that makes something else of the same bits, that is called with another number, or that reads data which no "
        "op made and which differ; or where another op is called. Dropout draws the same numbers in both runs, and "
        "is not reported. What differs on another machine, or with another number of threads, is not found so.",
        "x + torch.from_numpy(numpy.random.default_rng().normal(size=3))",
        "x + self.noise  # drawn once, or from torch.randn",
    ),
}


def matches(code: str, choices: tuple[str, ...]) -> bool:
    """Whether a code is one of `choices`, or begins with one: GL1 stands for GL101 to GL108."""
    return any(code.startswith(choice.upper()) for choice in choices)
