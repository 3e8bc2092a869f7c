from ._design import DEFAULT, build_design
from ._estimate import RunEstimate, estimate, estimate_disk
from ._expect import Expected
from ._job import PENDING_BYTES, PENDING_ROLLOUTS
from ._map import MapResult, design_run, run_map
from ._plan import ProfileChanges, plan_run, resolve_profile
from ._profile import PROFILES, Profile
from ._publish import MAP
from ._run import collect_rollouts, open_run
from ._sample import draw_entries, draw_from_bank
from ._sums import RunSums, Vectors
from ._unit import REASONING, read_completion
from ._until import Until, check_until, read_until

__all__ = [
    "DEFAULT",
    "MAP",
    "PENDING_BYTES",
    "PENDING_ROLLOUTS",
    "PROFILES",
    "REASONING",
    "Expected",
    "MapResult",
    "Profile",
    "ProfileChanges",
    "RunEstimate",
    "RunSums",
    "Until",
    "Vectors",
    "build_design",
    "check_until",
    "collect_rollouts",
    "design_run",
    "draw_entries",
    "draw_from_bank",
    "estimate",
    "estimate_disk",
    "open_run",
    "plan_run",
    "read_completion",
    "read_until",
    "resolve_profile",
    "run_map",
]
