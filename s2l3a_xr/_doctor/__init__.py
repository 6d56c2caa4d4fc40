"""How a server behaves, and what that means for reading from it."""

from s2l3a_xr._doctor._examination import MOST_BYTES, MOST_REQUESTS, examine
from s2l3a_xr._doctor._report import Finding, Report

__all__ = ["MOST_BYTES", "MOST_REQUESTS", "Finding", "Report", "examine"]
