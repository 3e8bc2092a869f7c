from .api import MappedModel
from .calibration import calibrate
from .corpus import load_corpus
from .directions import norms_for, steering_plan
from .engines import Request, Sampling, load_engine
from .evals import run_evaluation
from .interventions import Ablate, Cap, Plan, Steer
from .judge import parse_judge
from .mapping import run_map
from .models import steered
from .report import write_report
from .space import PersonaMap

__version__: str

__all__ = [
    "Ablate",
    "Cap",
    "MappedModel",
    "PersonaMap",
    "Plan",
    "Request",
    "Sampling",
    "Steer",
    "calibrate",
    "load_corpus",
    "load_engine",
    "norms_for",
    "parse_judge",
    "run_evaluation",
    "run_map",
    "steered",
    "steering_plan",
    "write_report",
]
