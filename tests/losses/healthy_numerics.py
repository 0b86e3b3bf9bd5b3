"""Sound numerical programs: differences that are exact or do no harm, stable formulas, matrices of good condition."""

import math

import torch

from graphlens.subject import Subject
from tests.losses.registry import healthy, leaf, wanted

DOUBLE = torch.float64


def rand(*shape, dtype=DOUBLE):
    return wanted(torch.rand(*shape, dtype=dtype))


def randn(*shape, dtype=DOUBLE):
    return wanted(torch.randn(*shape, dtype=dtype))


@healthy
def sum_of_numbers_of_one_sign():
    return Subject(lambda x: x.sum(), [rand(2000)])


@healthy
def running_sum_in_double():
    def run(x):
        total = x[0]
        for term in x[1:]:
            total = total + term
        return total

    return Subject(run, [rand(500)])


@healthy
def running_sum_of_random_signs():
    def run(x):
        total = x[0]
        for term in x[1:]:
            total = total + term
        return total

    return Subject(run, [randn(800)])


@healthy
def alternating_series_of_falling_terms():
    def run(x):
        term = total = x
        for k in range(2, 300):
            term = -term * x
            total = total + term / k
        return total

    return Subject(run, [leaf(0.97, 0.4)])


@healthy
def lost_sum_that_nothing_depends_on():
    def run(x, y):
        term = total = torch.ones_like(x)
        for k in range(1, 90):
            term = term * x / k
            total = total + term
        return total + 1e8 * y

    return Subject(run, [torch.tensor([-20.0], dtype=DOUBLE), leaf(1.3)])


@healthy
def oscillator_in_small_steps():
    def run(place, speed):
        for _ in range(300):
            speed = speed - 0.05 * place
            place = place + 0.05 * speed
        return place + speed

    return Subject(run, [leaf(1.0), leaf(0.3)])


@healthy
def long_sum_in_single():
    return Subject(lambda x: x.sum(), [rand(100_000, dtype=torch.float32)])


@healthy
def compensated_sum_in_single():
    def run(x):
        total, lost = x[0], torch.zeros(())
        for term in x[1:]:
            corrected = term - lost
            larger = total + corrected
            lost = (larger - total) - corrected
            total = larger
        return total

    return Subject(run, [torch.full((1000,), 0.1, requires_grad=True)])


@healthy
def difference_of_given_numbers():
    return Subject(lambda x, y: (x - y) * 3, [leaf(1.0000001, 2.0), leaf(1.0, 2.0000003)])


@healthy
def two_pass_variance():
    return Subject(lambda x: ((x - x.mean()) ** 2).mean(), [wanted(torch.rand(30, dtype=DOUBLE) + 20)])


@healthy
def sample_variance_of_torch():
    return Subject(lambda x: x.var(), [wanted(torch.rand(30, dtype=DOUBLE) + 20)])


@healthy
def solve_of_good_condition():
    a = torch.randn(6, 6, dtype=DOUBLE) + 6 * torch.eye(6, dtype=DOUBLE)
    return Subject(torch.linalg.solve, [wanted(a), randn(6)])


@healthy
def inverse_of_good_condition():
    a = torch.randn(5, 5, dtype=DOUBLE) + 6 * torch.eye(5, dtype=DOUBLE)
    return Subject(lambda a, x: torch.linalg.inv(a) @ x, [wanted(a), randn(5)])


@healthy
def cholesky_of_good_condition():
    b = torch.randn(5, 5, dtype=DOUBLE)
    a = b @ b.T + 5 * torch.eye(5, dtype=DOUBLE)
    return Subject(lambda a, y: torch.cholesky_solve(y, torch.linalg.cholesky(a)), [wanted(a), randn(5, 2)])


@healthy
def diagonal_matrix_of_bad_condition():
    return Subject(
        torch.linalg.solve, [wanted(torch.diag(torch.tensor([1.0, 2.0**-40], dtype=DOUBLE))), leaf(1.0, 2.0)]
    )


@healthy
def ill_conditioned_solve_beside_the_result():
    i = torch.arange(6, dtype=DOUBLE)
    hilbert = 1 / (i[:, None] + i + 1)
    b = torch.rand(6, dtype=DOUBLE)
    return Subject(lambda x: x.sin() + 1e-12 * torch.linalg.solve(hilbert, b).sum(), [randn(6)])


@healthy
def iterative_refinement():
    def run(a, b):
        x = torch.linalg.solve(a, b)
        return x + torch.linalg.solve(a, b - a @ x)

    a = torch.randn(5, 5, dtype=DOUBLE) + 5 * torch.eye(5, dtype=DOUBLE)
    return Subject(run, [wanted(a), randn(5)])


@healthy
def stable_functions_near_their_zero():
    return Subject(lambda x: torch.expm1(x) + torch.log1p(x), [leaf(1e-10, 2e-9)])


@healthy
def logsumexp_of_large_numbers():
    return Subject(lambda x: torch.logsumexp(x, 0), [leaf(1000.0, 1001.0, -1000.0)])


@healthy
def log_softmax_of_large_logits():
    return Subject(lambda x: -torch.log_softmax(x, 0)[1], [leaf(1000.0, 1.0, 3.0)])


@healthy
def softmax_of_moderate_logits():
    return Subject(lambda x: (torch.softmax(x, -1) ** 2).sum(), [randn(4, 9, dtype=torch.float32)])


@healthy
def addend_that_changes_nothing():
    return Subject(lambda x: torch.sqrt(x + 1e-20) * x, [leaf(0.5, 2.0)])


@healthy
def exponential_decay_to_nothing():
    return Subject(lambda x: torch.exp(-x) + 1, [leaf(900.0, 1.0)])


@healthy
def polynomial_in_horner_form():
    def run(x):
        y = torch.zeros_like(x)
        for coefficient in (3.0, -2.0, 0.5, 1.0):
            y = y * x + coefficient
        return y

    return Subject(run, [leaf(0.3, 1.7)])


@healthy
def angle_between_vectors():
    return Subject(lambda x, y: torch.cosine_similarity(x, y, dim=0), [randn(7), randn(7)])


@healthy
def pendulum_by_leapfrog():
    def run(q, p):
        for _ in range(40):
            p = p - 0.05 * torch.sin(q)
            q = q + 0.1 * p
            p = p - 0.05 * torch.sin(q)
        return q

    return Subject(run, [leaf(1.0), leaf(0.3)])


@healthy
def newton_for_a_root():
    def run(a):
        x = a
        for _ in range(8):
            x = (x + a / x) / 2
        return x

    return Subject(run, [leaf(2.0, 10.0)])


@healthy
def rotation_there_and_back():
    c, s = math.cos(0.4), math.sin(0.4)
    turn = torch.tensor([[c, -s], [s, c]], dtype=DOUBLE)
    return Subject(lambda x: turn.T @ (turn @ x), [leaf(1.0, 2.0)])


@healthy
def cast_of_a_result_to_single():
    return Subject(lambda x: torch.sin(x).float(), [leaf(0.3, 0.4)])


@healthy
def mixed_signs_in_a_product():
    return Subject(lambda a, b: (a @ b).tanh(), [randn(8, 12, dtype=torch.float32), randn(12, 8, dtype=torch.float32)])
