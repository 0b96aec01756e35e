"""GRIB 1 and 2: where messages are, what they say, and their values for a region, decoded in worker processes.

``messages`` reads headers, ``vocabulary`` maps their numbers to the catalog, ``grid`` finds the region's points, ``worker`` unpacks with
ecCodes, ``pool`` puts them together, ``accumulation`` turns totals into amounts of consecutive intervals.
"""

from data_catalog.grib.pool import DecodePool, Field, Outcome, Quarantined, Skipped, Source, Taken

__all__ = ["DecodePool", "Field", "Outcome", "Quarantined", "Skipped", "Source", "Taken"]
