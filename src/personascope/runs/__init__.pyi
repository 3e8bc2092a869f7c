from ._bar import ProgressBar, shown
from ._collect import Collected, collect
from ._job import Job
from ._progress import Progress, ProgressCallback
from ._request_queue import Prompt, RequestNames, RequestQueue
from ._requests import check_applied, run_requests

__all__ = [
    "Collected",
    "Job",
    "Progress",
    "ProgressBar",
    "ProgressCallback",
    "Prompt",
    "RequestNames",
    "RequestQueue",
    "check_applied",
    "collect",
    "run_requests",
    "shown",
]
