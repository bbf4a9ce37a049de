"""What an audit says: one finding, one line, one file."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["blocking", "warning"]


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One fault of a dataset. A blocking one stops `init`; a warning is shown and kept.

    file: relative to the dataset where it lies inside. code, blocking unless said otherwise:
        unreadable          damaged, truncated, or a kind of file that is not covered
        missing_image       a case without any image
        missing_channel     a case with fewer channels than `channel_names`
        extra_channel       a case with more channels than `channel_names`
        missing_label       a case without a label
        bad_name            an image file that is not named CASE_0000
        shape_mismatch      image against label, or channel against channel
        spacing_mismatch    the same
        origin_mismatch     the same
        direction_mismatch  the same
        non_finite          NaN or infinite voxels
        non_integer_label   label values with a fraction
        unknown_label       label values that are not in dataset.json
        duplicate_image     equal voxels in two cases; a warning when one patient has both
        patient_in_two_splits  a patient on both sides of a split that the dataset declares;
                            a warning for imagesTs where no patients are given
        patient_conflict    a case with two patients
        patient_unknown     a case that the patient table does not name
        bad_split           (warning) a splits_final.json that cannot be read as one
        case_unknown        (warning) a case of the patient table that the dataset lacks
        patients_not_given  (warning) no patient table: each case counts as its own patient
        duplicate_channel   (warning) equal voxels in two channels of one case
        constant_image      (warning) one value everywhere
        empty_label         (warning) no voxel of any class
        class_absent        (warning) a class that no label holds
        num_training        (warning) `numTraining` is not the number of cases
        other_file          (warning) files with another ending are not read
    """

    level: Level
    file: str
    code: str
    text: str

    def __str__(self) -> str:
        """Return the finding as one line."""
        return f"{self.level}: {self.file}: {self.text} [{self.code}]"


def blocking(code: str, file: str, text: str) -> Finding:
    """Return a finding that stops a campaign from being made."""
    return Finding("blocking", file, code, text)


def warning(code: str, file: str, text: str) -> Finding:
    """Return a finding that is shown and kept, no more."""
    return Finding("warning", file, code, text)
