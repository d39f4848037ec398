"""The service's own exceptions; cli.main prints them as one line and exits with 2."""


class SearchError(Exception):
    """Root of everything the service raises on purpose; the message says where, what was expected and what came."""


class SpecError(SearchError):
    """A study file is wrong, or contradicts the study that exists under its name."""


class StoreError(SearchError):
    """The storage does not answer or holds something unexpected."""


class RunnerError(SearchError):
    """A run cannot be placed or executed where it was asked for."""


class BundleError(SearchError):
    """The trainer's modules cannot be joined into one file."""


class SubmissionError(SearchError):
    """A submission cannot be exported."""


class DatasetError(SearchError):
    """Documents, shards or a tokenizer are missing, damaged, or do not fit together."""
