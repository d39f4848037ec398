"""The trainer's own exceptions. main.run turns each into the Failure that the driver reads."""


class TrainerError(Exception):
    """Root of everything the trainer raises on purpose; the message says where, what was expected and what came."""


class ConfigError(TrainerError):
    """A recipe or budget contradicts itself."""


class DataError(TrainerError):
    """A shard or tokenizer is missing, damaged, or does not fit the recipe."""


class DivergedError(TrainerError):
    """The loss, in training or in validation, is not finite."""


class ArtifactError(TrainerError):
    """The weight file cannot be written, or does not read back as what was written."""
