from ._address import HUB, HubAddress, hub_address, is_archive
from ._contents import Contents
from ._copies import local_copy
from ._manifest import MANIFEST, MAX_BYTES, Kind
from ._pull import Pulled, receive
from ._push import Pushed, send

__all__ = [
    "HUB",
    "MANIFEST",
    "MAX_BYTES",
    "Contents",
    "HubAddress",
    "Kind",
    "Pulled",
    "Pushed",
    "hub_address",
    "is_archive",
    "local_copy",
    "receive",
    "send",
]
