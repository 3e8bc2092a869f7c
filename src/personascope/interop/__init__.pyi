from ._capping import CappingConfig, export_capping_config
from ._directions import read_direction
from ._entries import Transcript, Unreadable
from ._experiment import is_experiment_id, parse_experiment_id
from ._export import export_released
from ._gguf import export_control_vector
from ._glp import export_projection
from ._open import open_map
from ._release_file import is_release
from ._released import Released
from ._released_map import ReleasedMap
from ._source import import_source
from ._steering import axis_plan
from ._transcripts import TranscriptSource

__all__ = [
    "CappingConfig",
    "Released",
    "ReleasedMap",
    "Transcript",
    "TranscriptSource",
    "Unreadable",
    "axis_plan",
    "export_capping_config",
    "export_control_vector",
    "export_projection",
    "export_released",
    "import_source",
    "is_experiment_id",
    "is_release",
    "open_map",
    "parse_experiment_id",
    "read_direction",
]
