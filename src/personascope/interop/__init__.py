"""The files of others in and out: the authors' ``.pt`` files, control vectors, transcripts.

Nothing that is read is ever run: a file with a pickled object is refused. Every import ends in this
project's orientation (the axis points toward the Assistant, layer l is the output of block l) and says
so when a file is turned the other way.
"""

from personascope.interop._capping import (
    CappingConfig,
    CappingVector,
    Ceiling,
    export_capping_config,
    import_capping_config,
    read_capping_config,
)
from personascope.interop._directions import read_direction
from personascope.interop._entries import Transcript, Unreadable
from personascope.interop._experiment import ExperimentId, is_experiment_id, parse_experiment_id
from personascope.interop._export import export_released
from personascope.interop._gguf import export_control_vector
from personascope.interop._import import PARTS, import_axis, import_persona_vector, import_released
from personascope.interop._pt import DtypeName, read_pt
from personascope.interop._released import Released
from personascope.interop._source import import_source
from personascope.interop._steering import axis_plan
from personascope.interop._transcripts import TranscriptSource, read_transcripts

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
