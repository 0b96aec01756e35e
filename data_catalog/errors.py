"""The exceptions of the catalog, the archive and the pipelines.

Each derives from :class:`GiomuaError` and from the builtin a caller would expect, so that ``except ValueError`` and
``except GiomuaError`` both do what they say::

    GiomuaError (Exception)
    ├── ConfigurationError (ValueError)         a setting, region or profile that cannot be used
    ├── UnknownNameError (KeyError)             a variable, station, source or forecaster that is not registered
    ├── StoreError (OSError)                    a store could not be written, checked or opened
    │   ├── StoreNotFoundError (FileNotFoundError)
    │   └── StoreCorruptError (ValueError)      content and recorded hash differ
    ├── ManifestError (RuntimeError)            the manifest refused or could not be reached
    ├── DecodeError (ValueError)                a message or report that cannot be decoded
    │   ├── TruncatedError                      shorter than its own header says
    │   ├── NotGribError                        no GRIB message where one was expected
    │   └── WorkerDiedError (RuntimeError)      the decoding process was lost
    ├── QualityError (ValueError)               decoded, but not believable
    ├── SourceError (OSError)                   a provider could not be read
    │   └── NotAvailableError (FileNotFoundError)   the cycle is not (yet) there
    ├── TrackingError (RuntimeError)            MLflow could not be told of what was done; the work itself is safe
    └── CycleError (RuntimeError)               a cycle that cannot be published at all

``models`` depends on nothing here and has its own small root, :class:`models.base.ForecasterError`.

A message is one sentence: the value found, the value expected, what to do.
"""

from __future__ import annotations


class GiomuaError(Exception):
    """Root of every exception this project raises on purpose."""

    def __str__(self) -> str:
        # KeyError quotes its argument; a sentence for people is not a key.
        return " ".join(str(part) for part in self.args)


class ConfigurationError(GiomuaError, ValueError):
    """A setting, region or profile that cannot be used."""


class UnknownNameError(GiomuaError, KeyError):
    """A variable, station, source or forecaster that is not registered."""


class StoreError(GiomuaError, OSError):
    """A store could not be written, checked or opened."""


class StoreNotFoundError(StoreError, FileNotFoundError):
    """No store at this path."""


class StoreCorruptError(StoreError, ValueError):
    """The content of a store is not what its name or the manifest says."""


class ManifestError(GiomuaError, RuntimeError):
    """The manifest refused a change or could not be reached."""


class DecodeError(GiomuaError, ValueError):
    """A message or report that cannot be decoded."""


class TruncatedError(DecodeError):
    """A message shorter than its own header says, or without its closing 7777."""


class NotGribError(DecodeError):
    """No GRIB message where one was expected."""


class WorkerDiedError(DecodeError, RuntimeError):
    """The decoding process died while it had this file."""


class QualityError(GiomuaError, ValueError):
    """Decoded, but not believable."""


class SourceError(GiomuaError, OSError):
    """A provider could not be read."""


class NotAvailableError(SourceError, FileNotFoundError):
    """The cycle asked for is not, or not yet, at the provider."""


class TrackingError(GiomuaError, RuntimeError):
    """MLflow could not be told of what was done; the work itself is safe."""


class CycleError(GiomuaError, RuntimeError):
    """A cycle that cannot be published at all."""
