"""The memory of every session: an append-only log in one SQLite file, with search, export, claims and paid acts."""

from agent.store.claims import Claimed, Lease, Slot
from agent.store.database import StoreError
from agent.store.log import Session, Store
from agent.store.search import Hit

__all__ = ["Claimed", "Hit", "Lease", "Session", "Slot", "Store", "StoreError"]
