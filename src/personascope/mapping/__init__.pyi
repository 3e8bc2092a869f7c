from ._design import DEFAULT, Design, Rollout, build_design
from ._estimate import DiskEstimate, RunEstimate, estimate, estimate_disk
from ._map import MapResult, design_run, make_space, run_map
from ._plan import ProfileChanges, identity_of, plan_run, resolve_profile
from ._profile import PROFILES, Profile
from ._publish import MAP, publish
from ._run import Collected, collect_rollouts, open_run, unscored_rows
from ._sums import RunSums, Vectors, response_norms

__all__ = [
    "DEFAULT",
    "MAP",
    "PROFILES",
    "Collected",
    "Design",
    "DiskEstimate",
    "MapResult",
    "Profile",
    "ProfileChanges",
    "Rollout",
    "RunEstimate",
    "RunSums",
    "Vectors",
    "build_design",
    "collect_rollouts",
    "design_run",
    "estimate",
    "estimate_disk",
    "identity_of",
    "make_space",
    "open_run",
    "plan_run",
    "publish",
    "resolve_profile",
    "response_norms",
    "run_map",
    "unscored_rows",
]
