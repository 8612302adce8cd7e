"""What can go wrong with scenes, labels, weights and files.

    XtgeoError
    ├── SceneError    a source cannot be opened, read, placed on the earth, or its units are unknown
    ├── LabelError    labels or predictions cannot be read, or do not fit the scenes
    ├── ModelError    weights are missing or broken, or do not fit the scene
    ├── OutputError   an output exists, cannot be written, or the disk is full
    ├── JournalError  unfinished work on disk belongs to another scene, model or set of options
    ├── PlanError     the work does not fit the memory that is allowed
    ├── ClusterError  the scheduler or its workers are gone, or do not fit
    └── TrainError    training cannot begin, or cannot go on

Each message is one line: what is wrong, what was found, what to do. A programmer's mistake is a `ValueError`.
"""


class XtgeoError(Exception):
    """Base of everything that xtgeo raises on purpose."""


class SceneError(XtgeoError):
    """A source cannot be opened, read or placed on the earth, or its units are unknown."""


class LabelError(XtgeoError):
    """Labels or predictions cannot be read, or do not fit the scenes."""


class ModelError(XtgeoError):
    """Weights are missing or broken, or do not fit the scene."""


class OutputError(XtgeoError):
    """An output exists already, cannot be written, or the disk is full."""


class JournalError(XtgeoError):
    """Unfinished work on disk belongs to another scene, model or set of options."""


class PlanError(XtgeoError):
    """The work does not fit the memory that is allowed."""


class ClusterError(XtgeoError):
    """The scheduler or its workers are gone, keep dying, or have another version."""


class TrainError(XtgeoError):
    """Training cannot begin, or cannot go on."""
