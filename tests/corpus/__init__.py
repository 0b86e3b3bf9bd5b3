"""Small programs with one fault each, and sound programs that look like them."""

from tests.corpus import (
    faulty_blocks,
    faulty_cuts,
    faulty_hidden,
    faulty_numbers,
    faulty_others,
    faulty_twins,
    faulty_values,
    healthy_copies,
    healthy_models,
    healthy_operations,
    healthy_state,
    healthy_training,
    healthy_twins,
    healthy_writes,
)
from tests.corpus.registry import FAULTY, HEALTHY, Case, faulty, healthy

MODULES = (
    faulty_cuts,
    faulty_values,
    faulty_others,
    faulty_twins,
    faulty_numbers,
    faulty_hidden,
    faulty_blocks,
    healthy_training,
    healthy_twins,
    healthy_models,
    healthy_operations,
    healthy_writes,
    healthy_state,
    healthy_copies,
)

__all__ = ["FAULTY", "HEALTHY", "MODULES", "Case", "faulty", "healthy"]
