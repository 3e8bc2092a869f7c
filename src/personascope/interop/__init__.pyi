from ._capping import (
    CappingConfig,
    CappingVector,
    Ceiling,
    export_capping_config,
    import_capping_config,
    read_capping_config,
)
from ._directions import read_direction
from ._entries import Transcript, Unreadable
from ._experiment import ExperimentId, is_experiment_id, parse_experiment_id
from ._export import export_released
from ._gguf import export_control_vector
from ._import import PARTS, import_axis, import_persona_vector, import_released
from ._pt import DtypeName, read_pt
from ._released import Released
from ._source import import_source
from ._steering import axis_plan
from ._transcripts import TranscriptSource, read_transcripts

__all__ = [
    "PARTS",
    "CappingConfig",
    "CappingVector",
    "Ceiling",
    "DtypeName",
    "ExperimentId",
    "Released",
    "Transcript",
    "TranscriptSource",
    "Unreadable",
    "axis_plan",
    "export_capping_config",
    "export_control_vector",
    "export_released",
    "import_axis",
    "import_capping_config",
    "import_persona_vector",
    "import_released",
    "import_source",
    "is_experiment_id",
    "parse_experiment_id",
    "read_capping_config",
    "read_direction",
    "read_pt",
    "read_transcripts",
]
