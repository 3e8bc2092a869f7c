from ._bar import shown
from ._collect import collect
from ._job import Job
from ._progress import Progress, ProgressCallback
from ._request_queue import Prompt, RequestNames, RequestQueue
from ._requests import check_applied

__all__ = [
    "Job",
    "Progress",
    "ProgressCallback",
    "Prompt",
    "RequestNames",
    "RequestQueue",
    "check_applied",
    "collect",
    "shown",
]
