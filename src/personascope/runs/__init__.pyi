from ._bar import shown
from ._collect import collect
from ._console import SafeConsole
from ._dates import chat_notes, dated
from ._estimate import PROBE, Meter, WorkStep, spread, with_judging
from ._job import Job
from ._progress import Progress, ProgressCallback
from ._request_queue import Prompt, RequestNames, RequestQueue
from ._requests import check_applied

__all__ = [
    "PROBE",
    "Job",
    "Meter",
    "Progress",
    "ProgressCallback",
    "Prompt",
    "RequestNames",
    "RequestQueue",
    "SafeConsole",
    "WorkStep",
    "chat_notes",
    "check_applied",
    "collect",
    "dated",
    "shown",
    "spread",
    "with_judging",
]
