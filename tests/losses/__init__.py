"""Small programs that lose digits in one known way, each beside its remedy, and sound ones that look like them."""

from tests.losses import faulty_range as faulty_range
from tests.losses import faulty_sums as faulty_sums
from tests.losses import healthy_models as healthy_models
from tests.losses import healthy_numerics as healthy_numerics
from tests.losses.registry import FAULTY, HEALTHY, Fault, Sound

__all__ = ["FAULTY", "HEALTHY", "Fault", "Sound"]
