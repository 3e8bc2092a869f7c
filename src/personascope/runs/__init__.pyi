from ._bar import shown
from ._collect import collect
from ._console import SafeConsole
from ._dates import chat_notes, dated
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
    "SafeConsole",
    "chat_notes",
    "check_applied",
    "collect",
    "dated",
    "shown",
]
