"""Digits lost in differences and sums, and with matrices that are nearly singular."""

import math

import torch

from tests.losses.registry import Pair, faulty, leaf, wanted

DOUBLE = torch.float64

# Cancellation


# The function is flat at 0: its gradient is small there, and a difference of large terms however it is written.
@faulty("GL304", gains=7, level="error", kept=["gradient of x"])
def one_minus_cosine():
    def bad(x):
        return (1 - torch.cos(x)) / x**2  # <- fault

    def good(x):
        return 2 * (torch.sin(x / 2) / x) ** 2

    return Pair(bad, good, [leaf(1e-4, 3e-5)])


@faulty("GL304", gains=9, level="error", allowed=["GL305"])
def small_root_of_a_quadratic():
    def bad(a, b, c):
        return (torch.sqrt(b * b - 4 * a * c) - b) / (2 * a)  # <- fault

    def good(a, b, c):
        return -2 * c / (b + torch.sqrt(b * b - 4 * a * c))

    return Pair(bad, good, [leaf(1.0), leaf(1e6 + 0.3), leaf(1.7)])


# Every addition keeps most of its digits: only all of them together lose them.
@faulty("GL304", gains=12, level="error")
def alternating_series_for_the_exponential():
    def bad(x):
        term = total = torch.ones_like(x)
        for k in range(1, 90):
            term = term * x / k
            total = total + term  # <- fault
        return total

    def good(x):
        term = total = torch.ones_like(x)
        for k in range(1, 90):
            term = -term * x / k
            total = total + term
        return 1 / total

    return Pair(bad, good, [leaf(-20.0, -19.3)])


# Added up in place, and with factors.
@faulty("GL304", gains=6, level="warning")
def sine_of_a_large_angle_by_its_series():
    def bad(x):
        term = x
        total = torch.zeros_like(x)
        for k in range(1, 60):
            total.add_(term, alpha=(-1) ** (k + 1))  # <- fault
            term = term * x * x / (2 * k * (2 * k + 1))
        return total

    def good(x):
        return torch.sin(x)

    return Pair(bad, good, [leaf(17.3, 16.1)])


@faulty("GL304", gains=6)
def variance_of_large_numbers():
    def bad(x):
        squares = (x * x).mean()
        return squares - x.mean() ** 2  # <- fault

    def good(x):
        return ((x - x.mean()) ** 2).mean()

    return Pair(bad, good, [wanted(torch.rand(40, dtype=DOUBLE) + 1e5)])


@faulty("GL304", gains=7)
def exponential_minus_one():
    def bad(x):
        return torch.exp(x) - 1  # <- fault

    def good(x):
        return torch.expm1(x)

    return Pair(bad, good, [leaf(3e-9, 2e-9)])


@faulty("GL304", gains=7)
def difference_of_roots():
    def bad(x):
        return torch.sqrt(x + 1) - torch.sqrt(x)  # <- fault

    def good(x):
        return 1 / (torch.sqrt(x + 1) + torch.sqrt(x))

    return Pair(bad, good, [leaf(1.23e9, 7.7e8)])


@faulty("GL304", gains=5)
def difference_of_reciprocals():
    def bad(x):
        return 1 / x - 1 / (x + 1)  # <- fault

    def good(x):
        return 1 / (x * (x + 1))

    return Pair(bad, good, [leaf(1.3e7)])


@faulty("GL304", gains=7)
def slope_by_a_tiny_step():
    def bad(x):
        return (torch.sin(x + 2.0**-40) - torch.sin(x)) * 2.0**40  # <- fault

    def good(x):
        return 2.0**41 * torch.cos(x + 2.0**-41) * math.sin(2.0**-41)

    return Pair(bad, good, [leaf(0.7, 1.1)])


@faulty("GL304", gains=5, allowed=["GL305"])
def needle_triangle_by_heron():
    def bad(a, b, c):
        s = (a + b + c) / 2
        return torch.sqrt(s * (s - a) * (s - b) * (s - c))  # <- fault

    def good(a, b, c):  # Kahan: a ≥ b ≥ c, and the brackets stay
        return torch.sqrt((a + (b + c)) * (c - (a - b)) * (c + (a - b)) * (a + (b - c))) / 4

    return Pair(bad, good, [leaf(1.3), leaf(1.3 - 1e-9), leaf(1.2e-9)])


@faulty("GL304", gains=10, level="error")
def exponential_series_at_a_negative_number():
    def terms(x):
        powers = torch.arange(120, dtype=DOUBLE)
        return x**powers / torch.exp(torch.lgamma(powers + 1))

    def bad(x):
        made = terms(x)
        return made.sum()  # <- fault

    def good(x):
        return 1 / terms(-x).sum()

    return Pair(bad, good, [leaf(-20.0)])


@faulty("GL304", gains=5)
def expanded_polynomial_beside_its_root():
    coefficients = torch.tensor([-1.0, 7.0, -21.0, 35.0, -35.0, 21.0, -7.0, 1.0], dtype=DOUBLE)

    def bad(x):
        powers = x ** torch.arange(8, dtype=DOUBLE)
        return torch.dot(powers, coefficients)  # <- fault

    def good(x):
        return (x - 1) ** 7

    return Pair(bad, good, [leaf(1.05)])


@faulty("GL304", gains=3)
def distance_by_three_products():
    def bad(x, y):
        return x @ x - 2 * (x @ y) + y @ y  # <- fault

    def good(x, y):
        return ((x - y) ** 2).sum()

    x = torch.rand(16) + 10
    return Pair(bad, good, [wanted(x), wanted(x + 0.01 * torch.rand(16))])


@faulty("GL304", gains=3)
def normalisation_by_mean_squares_in_single():
    def bad(x):
        variance = (x * x).mean() - x.mean() ** 2  # <- fault
        return x.mean() / variance

    def good(x):
        return x.mean() / ((x - x.mean()) ** 2).mean()

    return Pair(bad, good, [wanted(torch.rand(64) + 300)])


@faulty("GL304", gains=6, allowed=["GL305"])
def squared_error_of_nearly_equal_numbers():
    def bad(x, y):
        return torch.nn.functional.mse_loss(torch.exp(x + y), torch.exp(x))  # <- fault

    def good(x, y):
        return ((torch.exp(x) * torch.expm1(y)) ** 2).mean()

    return Pair(bad, good, [leaf(1.3, 0.4), leaf(1.1e-9, 2.3e-9)])


# Absorption


@faulty("GL305", gains=7)
def logarithm_of_one_plus():
    def bad(x):
        return torch.log(1 + x)  # <- fault

    def good(x):
        return torch.log1p(x)

    return Pair(bad, good, [leaf(1e-10, 2.3e-10)])


@faulty("GL305", gains=7)
def inverse_hyperbolic_tangent_by_logarithm():
    def bad(x):
        return torch.log((1 + x) / (1 - x)) / 2  # <- fault

    def good(x):
        return torch.atanh(x)

    return Pair(bad, good, [leaf(3.3e-10)])


@faulty("GL305", gains=2)
def running_sum_in_single():
    def bad(x):
        total = x[0]
        for term in x[1:]:
            total = total + term  # <- fault
        return total

    def good(x):
        return x.sum()

    return Pair(bad, good, [torch.full((9000,), 0.1, requires_grad=True)])


@faulty("GL305", gains=6, allowed=["GL304"])
def small_terms_after_a_large_one():
    def bad(x):
        total = x[0]
        for term in x[1:]:
            total = total + term  # <- fault
        return total - x[0]

    def good(x):
        return x[1:].sum()

    return Pair(bad, good, [wanted(torch.cat([torch.tensor([1e12], dtype=DOUBLE), torch.rand(30, dtype=DOUBLE)]))])


@faulty("GL305", gains=1)
def steps_too_small_for_bfloat16():
    def bad(weight, step):
        for _ in range(200):
            weight = weight + step  # <- fault
        return weight

    def good(weight, step):
        wide, by = weight.float(), step.float()
        for _ in range(200):
            wide = wide + by
        return wide

    return Pair(bad, good, [leaf(1.0, dtype=torch.bfloat16), leaf(2e-3, dtype=torch.bfloat16)])


# Ill-conditioned


def hilbert(n, dtype=DOUBLE):
    i = torch.arange(n, dtype=dtype)
    return 1 / (i[:, None] + i + 1)


@faulty("GL303", gains=5)
def polynomial_fit_by_monomials():
    # ∫ f·xᵏ over [0, 1] for f = Σ xᵏ, k < 8: the coefficients solve the Hilbert system.
    def bad(moments):
        return torch.linalg.solve(hilbert(8), moments)  # <- fault

    def good(moments):
        return exact_inverse @ moments

    n = 8
    exact_inverse = torch.tensor(
        [
            [
                (-1) ** (i + j) * (i + j + 1)
                * math.comb(n + i, n - j - 1) * math.comb(n + j, n - i - 1) * math.comb(i + j, i) ** 2
                for j in range(n)
            ]
            for i in range(n)
        ],
        dtype=DOUBLE,
    )  # fmt: skip
    return Pair(bad, good, [leaf(1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)])


@faulty("GL303", gains=4, allowed=["GL304"])
def inverse_and_product_that_undo_each_other():
    q, _ = torch.linalg.qr(torch.randn(6, 6, dtype=DOUBLE))
    matrix = (
        q @ torch.diag(torch.logspace(0, -9, 6, dtype=DOUBLE)) @ torch.linalg.qr(torch.randn(6, 6, dtype=DOUBLE))[0]
    )

    def bad(a, x):
        inverse = torch.linalg.inv(a)  # <- fault
        return inverse @ (a @ x)

    def good(a, x):
        return x * 1.0 + 0 * a.sum()

    return Pair(bad, good, [wanted(matrix), wanted(torch.randn(6, dtype=DOUBLE))])


@faulty("GL303", gains=3)
def solve_in_single_that_needs_double():
    q, _ = torch.linalg.qr(torch.randn(5, 5, dtype=DOUBLE))
    matrix = (q @ torch.diag(torch.logspace(0, -5, 5, dtype=DOUBLE)) @ q.T).float()

    def bad(a, b):
        return torch.linalg.solve(a, b)  # <- fault

    def good(a, b):
        return torch.linalg.solve(a.double(), b.double()).float()

    return Pair(bad, good, [wanted(matrix), wanted(torch.randn(5))])


@faulty("GL303", gains=3)
def smoothing_kernel_without_a_nugget():
    x = torch.linspace(0, 1, 9, dtype=DOUBLE)
    kernel = torch.exp(-((x[:, None] - x) ** 2) / 0.18)

    def solved(kernel, y):
        root = torch.linalg.cholesky(kernel)
        return torch.cholesky_solve(y[:, None], root)[:, 0]

    def bad(k, y):
        root = torch.linalg.cholesky(k)
        return torch.cholesky_solve(y[:, None], root)[:, 0]  # <- fault

    def good(k, y):
        return solved(k + 0.1 * torch.eye(9, dtype=DOUBLE), y)

    return Pair(bad, good, [wanted(kernel), wanted(torch.sin(5 * x))])


@faulty("GL303", gains=3)
def determinant_of_a_nearly_singular_matrix():
    def bad(a):
        return torch.linalg.det(a)  # <- fault

    def good(a):  # ad − bc in exact differences: (1 + e)(1 + f) − 1 = e + f + ef
        e, f = a[0, 0] - 1, a[1, 1] - 1
        return e + f + e * f

    return Pair(bad, good, [leaf([1 + 1e-9, 1.0], [1.0, 1 + 2.3e-9])])
