"""What a picture of a folded graph shows: which boxes, in which frames, with which arrows between them."""

from graphlens.analyses.fold.labels import compact_label as compact_label
from graphlens.analyses.scene.build import build_scene as build_scene
from graphlens.analyses.scene.names import group_names as group_names
from graphlens.analyses.scene.records import Deeper as Deeper
from graphlens.analyses.scene.records import Expansion as Expansion
from graphlens.analyses.scene.records import Extract as Extract
from graphlens.analyses.scene.records import Frame as Frame
from graphlens.analyses.scene.records import Key as Key
from graphlens.analyses.scene.records import Scene as Scene
from graphlens.analyses.scene.records import SceneArrow as SceneArrow
from graphlens.analyses.scene.records import SceneBox as SceneBox
from graphlens.analyses.scene.records import SceneFrame as SceneFrame
from graphlens.analyses.scene.records import without_frames as without_frames
