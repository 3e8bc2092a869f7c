from ._calibrate import Sweep, SweepSettings, calibrate
from ._capability import CapabilityEvaluation, capability
from ._chat_options import read_chat_options
from ._compare_maps import MapComparison, compare
from ._comparison import Comparison
from ._converse import Conversations, open_monitor, replay, simulate
from ._drift import DriftAnalysis, compare_with_replay, drift
from ._estimate import Prepared, WorkEstimate
from ._evaluate import Evaluation, coherence, jailbreak, pretrained, susceptibility
from ._exchange import ImportedPlan, export, import_plan, import_release, open_any
from ._harm import HarmEvaluation, harm
from ._inputs import load_plans, open_map, open_plan
from ._installation import EngineSupport, Finding, check_installation, check_model, engine_support
from ._judging import JudgeChoice, default_judge, read_headers
from ._layout import RunLayout, run_of
from ._map import prepare_map
from ._map_values import map_values
from ._mapped_model import MappedModel, PersonaMap
from ._monitor import CalibratedMonitor, calibrate_drift_monitor
from ._pages import Pages, write_pages
from ._project import project
from ._serve import prepare_server
from ._serve_live import LiveServer, open_live_server, own_map, server_engine
from ._share import Pulled, Pushed, contents_of, pull, push
from ._steer import Answer, make_cap_plan, make_random_control, make_steering_plan, measure_norms, steer
from ._talk import Spoken, Talk
from ._talk_server import ServerTalk, is_server
from ._traits import (
    PreparedTraits,
    TraitEstimate,
    choose_writer,
    prepare_traits,
    released_traits,
    save_trait_file,
    trait_judge,
    traits_beside,
    write_trait_file,
)

__all__ = [
    "Answer",
    "CalibratedMonitor",
    "CapabilityEvaluation",
    "Comparison",
    "Conversations",
    "DriftAnalysis",
    "EngineSupport",
    "Evaluation",
    "Finding",
    "HarmEvaluation",
    "ImportedPlan",
    "JudgeChoice",
    "LiveServer",
    "MapComparison",
    "MappedModel",
    "Pages",
    "PersonaMap",
    "Prepared",
    "PreparedTraits",
    "Pulled",
    "Pushed",
    "RunLayout",
    "ServerTalk",
    "Spoken",
    "Sweep",
    "SweepSettings",
    "Talk",
    "TraitEstimate",
    "WorkEstimate",
    "calibrate",
    "calibrate_drift_monitor",
    "capability",
    "check_installation",
    "check_model",
    "choose_writer",
    "coherence",
    "compare",
    "compare_with_replay",
    "contents_of",
    "default_judge",
    "drift",
    "engine_support",
    "export",
    "harm",
    "import_plan",
    "import_release",
    "is_server",
    "jailbreak",
    "load_plans",
    "make_cap_plan",
    "make_random_control",
    "make_steering_plan",
    "map_values",
    "measure_norms",
    "open_any",
    "open_live_server",
    "open_map",
    "open_monitor",
    "open_plan",
    "own_map",
    "prepare_map",
    "prepare_server",
    "prepare_traits",
    "pretrained",
    "project",
    "pull",
    "push",
    "read_chat_options",
    "read_headers",
    "released_traits",
    "replay",
    "run_of",
    "save_trait_file",
    "server_engine",
    "simulate",
    "steer",
    "susceptibility",
    "trait_judge",
    "traits_beside",
    "write_pages",
    "write_trait_file",
]
