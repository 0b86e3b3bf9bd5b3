"""Fold what repeats in a graph, so that 30,000 nodes can be read as a dozen boxes."""

from graphlens.analyses.fold.build import fold as fold
from graphlens.analyses.fold.records import Box as Box
from graphlens.analyses.fold.records import Crossing as Crossing
from graphlens.analyses.fold.records import FoldedGraph as FoldedGraph
from graphlens.analyses.fold.records import Group as Group
from graphlens.analyses.fold.records import Item as Item
from graphlens.analyses.fold.records import Link as Link
from graphlens.analyses.fold.records import Path as Path
from graphlens.analyses.fold.records import Totals as Totals
