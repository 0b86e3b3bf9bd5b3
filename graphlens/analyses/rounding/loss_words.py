"""What an op did to the digits of a result, in words with their numbers, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from graphlens.accuracy import Suspect
from graphlens.units import significant

_OPS = {
    "linalg_inv_ex": "inv", "_linalg_solve_ex": "solve", "linalg_solve_triangular": "solve_triangular",
    "linalg_cholesky_ex": "cholesky", "linalg_lu_factor_ex": "lu_factor", "linalg_lu_solve": "lu_solve",
    "linalg_lstsq": "lstsq", "_linalg_det": "det", "_linalg_slogdet": "slogdet", "_softmax": "softmax",
    "_log_softmax": "log_softmax", "rsub": "sub", "_to_copy": "a cast",
}  # fmt: skip
Told = Mapping[str, Any]


def claim_of(suspect: Suspect) -> str:
    """ "sub cancels: …", with how often and in which pass."""
    told = suspect.evidence
    return f"{_name(told)} {_CLAIMS[suspect.kind](told)}"


def fix_of(suspect: Suspect) -> str:
    """What to change."""
    return _FIXES[suspect.kind](suspect.evidence)


def _name(told: Told) -> str:
    """ "solve", "mv in the backward pass", "add, the worst of 5,904,"."""
    name = _OPS.get(str(told["op"]), str(told["op"]).strip("_"))
    if told["during"] == "sums of gradients":
        name = "the sum of gradients that meet here,"
    elif told["during"] == "backward":
        name = f"{name} in the backward pass"
    if told.get("additions") and told["during"] != "sums of gradients":
        more = f" (the worst of {told['calls']:,} such sums)" if told["calls"] > 1 else ""
        return f"{name}, {told['additions']:,} times in a row{more},"
    return f"{name}, the worst of {told['calls']:,} calls," if told["calls"] > 1 else name


def _ill_conditioned(told: Told) -> str:
    matrix = f"matrix of {told['rows']:,} × {told['columns']:,}"
    kappa = f"κ₂ {'of at least' if told['at_least'] else '='} {_short(told['kappa'])}"
    expected = f"κ·u = {_short(told['expected'])}"
    if told["expected_from_input"] > told["expected"]:
        expected = f"κ times that of its input = {_short(told['expected_from_input'])}"
    observed = "no digit right" if told["after"] is None else f"relative error {_short(told['after'])}"
    limit = f"{expected} or more" if told["at_least"] else f"up to some {expected}"
    return f"on a {matrix} with {kappa} loses {_lost(told)}: {observed}, where {limit} is to be expected"


def _cancellation(told: Told) -> str:
    terms = "two terms" if told["terms"] == 2 else f"{told['terms']:,} terms"
    factor = told["factor"]
    left = "nothing" if factor is None else f"1 part in {_short(factor)}"
    before = "0" if not told["before"] else _short(told["before"])
    return (
        f"of {terms} leaves {left} of them and loses {_lost(told)}: relative error {before} before, "
        f"{'no right digit' if told['after'] is None else _short(told['after'])} after"
    )


def _absorption(told: Told) -> str:
    if told["lost_of_addend"] >= 1:
        return f"swallows an addend {_short(told['ratio'])} times smaller than the other: no digit of it is left"
    return f"loses {_lost(told)} of an addend {_short(told['ratio'])} times smaller than the other"


def _out_of_range(told: Told) -> str:
    of = _of(told)
    limit = (
        f"the largest number of {told['format']} is {_short(told['largest_number'])}"
        if told["makes"].strip("-") in ("inf", "nan")
        else f"{told['format']} has its full precision down to {_short(told['least_normal_number'])}"
    )
    truth = "" if told["true_log10"] is None else f" where the true size is {_power(told['true_log10'])}"
    return f"{of} makes {told['makes']}{truth} ({limit})".strip()


def _of(told: Told) -> str:
    """ "of 800", the entry that an entry was made of, or "of numbers up to 800"."""
    if told.get("input") is not None:
        return f"of {significant(told['input'], 4)}"
    return "" if told["largest_input"] is None else f"of numbers up to {significant(told['largest_input'], 3)}"


def _saturation(told: Told) -> str:
    return (
        f"{_of(told)} comes out as {told['makes']}: what is missing to it "
        f"is less than the spacing of {told['format']} and is lost"
    )


def _cast(told: Told) -> str:
    return (
        f"from {told['from']} to {told['format']} leaves {told['format_digits']:.1f} of {told['from_digits']:.1f} "
        f"digits (unit roundoff {_short(told['unit'])}), more than any other op rounds"
    )


_CLAIMS: dict[str, Callable[[Told], str]] = {
    "ill-conditioned": _ill_conditioned,
    "cancellation": _cancellation,
    "absorption": _absorption,
    "overflow": _out_of_range,
    "underflow": _out_of_range,
    "subnormal": _out_of_range,
    "saturation": _saturation,
    "cast": _cast,
}


def _better_conditioned(told: Told) -> str:
    wider = " Compute this part in float64, which has 9 digits more." if told["format"] != "float64" else ""
    if told.get("kappa_of_root") is not None:
        return (
            f"A was computed as XᵀX, and its κ is that of X, {_short(told['kappa_of_root'])}, squared: for least "
            "squares torch.linalg.lstsq(X, y), or X = QR and a solve with the triangle R alone, goes by the κ of X."
            f"{wider}"
        )
    if told["op"] == "linalg_inv_ex":
        return (
            "torch.linalg.solve(A, b) instead of the inverse leaves a small residual, and often a smaller error; what "
            f"κ itself costs goes away only with another A: scale its rows and columns, regularise it.{wider}"
        )
    return (
        "No way of solving with this A does much better: scale its rows and columns, regularise it, choose another "
        f"basis, or do without solving.{wider}"
    )


def _no_cancellation(told: Told) -> str:
    if told.get("additions"):
        return (
            "Write it with terms of one sign, as 1 ÷ exp(x) for exp(−x); subtract what the terms have in common before "
            "they are summed; or sum in a wider format."
        )
    if told["terms"] > 2:
        return "Subtract the common part of the terms before they are summed, or sum in a wider format."
    return (
        "Rewrite the difference so that it is formed of what differs: expm1, log1p, 2·sin²(x ÷ 2) for 1 − cos x, the "
        "mean of (x − mean)² for a variance, 2c ÷ (−b ∓ √…) for the small root of a quadratic; or compute it in a "
        "wider format."
    )


def _no_absorption(_: Told) -> str:
    return (
        "log1p(x) for log(1 + x); for a running sum torch.sum, which adds in pairs, a compensated sum (Kahan), the "
        "small terms first, or a wider format for the sum alone."
    )


def _in_range(told: Told) -> str:
    if told["makes"].strip("-") in ("inf", "nan"):
        return (
            "Subtract the largest exponent first, as torch.softmax and torch.logsumexp do; scale by a power of two; or "
            "use a format with a wider range, as bfloat16 or float64."
        )
    return (
        "Stay with logarithms: log_softmax for log(softmax), a sum of logs for the log of a product, logsigmoid, "
        "cross_entropy on logits; or scale by a power of two."
    )


def _unsaturated(_: Told) -> str:
    return (
        "Compute what is missing to 1 itself: sigmoid(−x) for 1 − sigmoid(x), erfc for 1 − erf; or stay with logits "
        "(logsigmoid, log_softmax, cross_entropy)."
    )


def _no_cast(told: Told) -> str:
    return (
        f"Keep {told['from']} here; see where {told['format']} comes from: .float(), torch.tensor, a default dtype, "
        "autocast."
    )


_FIXES: dict[str, Callable[[Told], str]] = {
    "ill-conditioned": _better_conditioned,
    "cancellation": _no_cancellation,
    "absorption": _no_absorption,
    "overflow": _in_range,
    "underflow": _in_range,
    "subnormal": _in_range,
    "saturation": _unsaturated,
    "cast": _no_cast,
}


def _lost(told: Told) -> str:
    return f"{told['digits_lost']:.1f} of {told['format_digits']:.1f} digits"


def _short(number: float) -> str:
    """ "1.5e+10", "12.3"."""
    return f"{number:.1e}" if number >= 1e4 or number < 1e-3 else significant(number, 2)


def _power(exponent: float) -> str:
    """A number of which the decimal logarithm is known: "4.3e-12", "1e434.3" where float64 does not hold it."""
    return f"{10.0**exponent:.2g}" if abs(exponent) < 300 else f"10^{exponent:.1f}"
