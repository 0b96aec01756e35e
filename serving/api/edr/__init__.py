"""OGC API - Environmental Data Retrieval 1.1 (OGC 19-086r6) over the published cycles.

A collection is a published group, an instance a published revision of it. ``realization``, ``quantile``, ``window``, ``threshold`` and
``forecaster`` are custom dimensions, given in the URL by their name.
"""
