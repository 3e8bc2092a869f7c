from ._design import DEFAULT, build_design
from ._estimate import RunEstimate, estimate, estimate_disk
from ._expect import Expected
from ._map import MapResult, design_run, run_map
from ._plan import ProfileChanges, plan_run, resolve_profile
from ._profile import PROFILES, Profile
from ._publish import MAP
from ._run import collect_rollouts, open_run
from ._sums import RunSums, Vectors
from ._until import Until, check_until, read_until

__all__ = [
    "DEFAULT",
    "MAP",
    "PROFILES",
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
    "estimate",
    "estimate_disk",
    "open_run",
    "plan_run",
    "read_until",
    "resolve_profile",
    "run_map",
]
