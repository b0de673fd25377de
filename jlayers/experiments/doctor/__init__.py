"""`jl.doctor`: looks for faults in an experiment, before its training and after it has failed.

Each check is a file of this folder: a function from a `Case`, the record of an experiment, to findings. None
of them changes anything.
"""

from jlayers.experiments.doctor.case import Case
from jlayers.experiments.doctor.examine import doctor, examine
from jlayers.experiments.doctor.finding import Finding, Report
from jlayers.experiments.doctor.of_files import doctor_experiment, doctor_run

__all__ = ["Case", "Finding", "Report", "doctor", "doctor_experiment", "doctor_run", "examine"]
