"""GL203 and GL206: the same result by a way that costs less."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from graphlens.analyses.findings import Finding
from graphlens.analyses.listing import Listing, Step
from graphlens.analyses.redundancy.otherwise import Otherwise
from graphlens.analyses.redundancy.rules import PRODUCTS
from graphlens.analyses.redundancy.saving import Saving
from graphlens.analyses.redundancy.telling import Telling, nodes_of

_CHEAPER = 0.5  # of the FLOPs: below it another order is worth a finding


def dearer_findings(
    alive: Sequence[Step], listing: Listing, telling: Telling, otherwise: Otherwise
) -> Iterator[Finding]:
    """Explicit inverses that are only multiplied with, and products in a dear order."""
    users: dict[int, list[Step]] = defaultdict(list)
    for step in alive:
        for value in step.inputs:
            users[value].append(step)
    for value in map(telling.found.first, listing.ends):
        users[value].append(_END)
    for step in alive:
        if step.op == "linalg_inv_ex":
            yield from _factor_only(step, users, listing, telling, otherwise)
    groups: dict[tuple[str, str], list[tuple[Step, Step, int, int]]] = defaultdict(list)
    for step in alive:
        for inner, now, then in _orders(step, users, listing, telling):
            groups[telling.line(inner), telling.line(step)].append((inner, step, now, then))
            otherwise.orders.setdefault(step.outputs[0] or 0, inner.outputs[0] or 0)
    for products in groups.values():
        yield _order_finding(products, telling)


_END = Step("", "", (), {}, (), (), None)  # reads the outputs of the program


def _factor_only(
    step: Step, users: Mapping[int, Sequence[Step]], listing: Listing, telling: Telling, otherwise: Otherwise
) -> Iterator[Finding]:
    result = step.outputs[0]
    if result is None or step.node is None:
        return
    readers = users[result]
    if not readers or any(reader.op not in PRODUCTS or reader.inputs.count(result) != 1 for reader in readers):
        return
    shape = listing.values[step.inputs[0]].shape
    side, batch = shape[-1], _count(shape[:-2])
    columns = sum(_columns(reader, result, listing) for reader in readers)
    # LU with two triangular solves, against the inverse and a product (Golub and Van Loan 2013, 3.2).
    inverse = batch * (2 * side**3 + 2 * side**2 * columns)
    solve = batch * (2 * side**3 // 3 + 2 * side**2 * columns)
    products = f"{len(readers):,} product{'s' if len(readers) > 1 else ''}"
    matrix = telling.value(step.inputs[0], 1)
    saving = telling.savings.of(nodes_of([step, *readers]))
    otherwise.by_hand.add("GL203")  # a solve keeps more for backward than an inverse: which is shorter is a choice
    yield Finding(
        "GL203",
        "info",
        f"{telling.expression(step)} is used in {products} and for nothing else. Solving with {matrix} takes {solve:,} "
        f"floating-point operations instead of {inverse:,}, and rounds less. {_now(saving)}",
        telling.where(step, nodes_of([step])),
        {
            "products": len(readers),
            "columns": columns,
            "flops": inverse,
            "flops_of_solving": solve,
            "lines": [line for line in dict.fromkeys(map(telling.line, readers)) if line],
            **saving.evidence,
        },
        _solving(readers, result, matrix if matrix.isidentifier() else "A"),
    )


def _solving(readers: Sequence[Step], inverse: int, name: str) -> str:
    """How to solve in place of multiplying with an inverse, from the side that it stands on."""
    if len(readers) > 1:
        return f"torch.linalg.lu_factor({name}) once, then torch.linalg.lu_solve"
    if readers[0].inputs[0] == inverse:
        return f"torch.linalg.solve({name}, b) for inv({name}) @ b"
    return f"torch.linalg.solve({name}, b, left=False) for b @ inv({name})"


def _columns(product: Step, inverse: int, listing: Listing) -> int:
    """How many right-hand sides a product with the inverse stands for, in each matrix of a batch."""
    other = product.inputs[1] if product.inputs[0] == inverse else product.inputs[0]
    shape = listing.values[other].shape
    if product.op == "mv":
        return 1
    return shape[-1] if product.inputs[0] == inverse else shape[-2]


def _orders(
    step: Step, users: Mapping[int, Sequence[Step]], listing: Listing, telling: Telling
) -> Iterator[tuple[Step, int, int]]:
    """The inner product of (A B) v or v (A B), with the multiply-adds of this order and of the other."""
    if step.op not in ("mm", "mv", "bmm") or step.node is None:
        return
    for place, value in enumerate(step.inputs):
        inner = telling.found.made_by.get(value)
        if inner is None or inner.op not in ("mm", "bmm") or len(users[value]) != 1 or inner.outputs[0] != value:
            continue
        a, b = (listing.values[each].shape for each in inner.inputs)
        other = listing.values[step.inputs[1 - place]].shape
        m, k, n = a[-2], a[-1], b[-1]
        batch = _count(a[:-2])
        if place == 0:
            p = 1 if step.op == "mv" else other[-1]
            now, then = m * k * n + m * n * p, k * n * p + m * k * p
        else:
            p = other[-2]
            now, then = m * k * n + p * m * n, p * m * k + p * k * n
        if then < _CHEAPER * now:
            yield inner, 2 * batch * now, 2 * batch * then


def _order_finding(products: list[tuple[Step, Step, int, int]], telling: Telling) -> Finding:
    inner, step, _, _ = products[0]
    now, then = sum(product[2] for product in products), sum(product[3] for product in products)
    a, b = (telling.value(value, 1) for value in inner.inputs)
    outer = [telling.value(value, 1) for value in step.inputs]
    is_left = step.inputs[0] == inner.outputs[0]
    before = f"({a} @ {b}) @ {outer[1]}" if is_left else f"{outer[0]} @ ({a} @ {b})"
    after = f"{a} @ ({b} @ {outer[1]})" if is_left else f"({outer[0]} @ {a}) @ {b}"
    count = "" if len(products) == 1 else f" Such products: {len(products):,}."
    saving = telling.savings.of(nodes_of(each for product in products for each in product[:2]))
    return Finding(
        "GL206",
        "warning",
        f"{before} takes {now:,} floating-point operations forward; {after} is the same product in {then:,}.{count} "
        f"{_now(saving)}",
        telling.where(step, nodes_of([inner, step])),
        {
            "flops": now,
            "flops_of_the_other_order": then,
            "products": len(products),
            "lines": [line for line in dict.fromkeys((telling.line(inner), telling.line(step))) if line],
            **saving.evidence,
        },
        f"write {after}, or use torch.linalg.multi_dot",
    )


def _now(saving: Saving) -> str:
    """What the ops take as they are: the most that can be saved."""
    return f"As it is: {saving.sentence()}."


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total
