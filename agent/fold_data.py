"""The data of further folds: preprocessed once, when the first training asks for a fold.

Search-val is preprocessed with its labels, the images of search-train without them, both by the
campaign's plan. Each fold gets a folder of its own with links to just the cases that a training
of it may learn from, so that no sandbox is shown a label that it is scored on.
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from agent.session import Session
from memory.errors import SegwrightError
from memory.records import SplitName
from sandbox.engine import PREPARING
from sandbox.folds import Fold
from sandbox.isolation import Mount
from sandbox.job import fold_folder

TRAIN, VAL = SplitName.SEARCH_TRAIN, SplitName.SEARCH_VAL
PREPARE_S = 6 * 3600.0
MORE = "more"


def keep_raw(folder: Path) -> None:
    """Move what was staged of search-train to where the other parts' files are.

    A second call changes nothing.
    """
    staging = folder / "staging"
    for root in sorted(staging.glob("Dataset*")):
        for before, after in (("imagesTr", "images"), ("labelsTr", "labels")):
            target = folder / after / TRAIN
            if not target.exists():
                (root / before).rename(target)
    shutil.rmtree(staging, ignore_errors=True)


def has_raw(folder: Path) -> bool:
    """Tell whether the raw files of search-train are there: campaigns of old removed them."""
    return (folder / "staging").exists() or (folder / "labels" / TRAIN).exists()


def prepare_fold(session: Session, number: int) -> None:
    """Make the training data of a fold, unless they are there.

    Raises:
        SegwrightError: search-train allows no such fold, or its raw files are not kept.
        SandboxError: preprocessing failed.
    """
    preprocessed = session.folder / "preprocessed"
    place = preprocessed / fold_folder(number)
    if number == 0 or place.exists():
        return
    fold = session.fold(number)
    if not (preprocessed / MORE).exists():
        preprocess_more(session)
    draft = place.with_name(f".{place.name}")
    shutil.rmtree(draft, ignore_errors=True)
    link_fold(preprocessed, session.plan.dataset, fold, draft)
    draft.rename(place)


def preprocess_more(session: Session) -> None:
    """Preprocess search-val with labels, and the images of search-train."""
    folder = session.folder
    if not has_raw(folder):
        raise SegwrightError(
            f"{folder} keeps no raw files of search-train, so it has no further folds; "
            "set selection.folds=0, or start a new campaign"
        )
    keep_raw(folder)
    shutil.rmtree(folder / PREPARING, ignore_errors=True)
    mounts = [Mount(folder / "images" / part, f"/images/{part}") for part in (TRAIN, VAL)]
    mounts.append(Mount(folder / "labels" / VAL, f"/labels/{VAL}"))
    out, _ = session.preprocess(
        folder,
        more_job(session),
        mounts=mounts,
        isolation=session.isolation,
        limits=session.limits(PREPARE_S, disk_mib=1 << 30),
    )
    images = folder / "preprocessed" / "images" / TRAIN
    shutil.rmtree(images, ignore_errors=True)
    (out / "images" / TRAIN).rename(images)
    (out / session.plan.dataset).rename(folder / "preprocessed" / MORE)
    shutil.rmtree(folder / PREPARING)


def more_job(session: Session) -> dict[str, Any]:
    """Return the job of that preprocessing, with paths as they are inside the sandbox."""
    ending, channels = session.dataset["file_ending"], len(session.dataset["channels"])

    def images(part: SplitName, case: str) -> list[str]:
        return [f"/images/{part}/{case}_{channel:04d}{ending}" for channel in range(channels)]

    def files(case: str) -> dict[str, Any]:
        return {"images": images(VAL, case), "label": f"/labels/{VAL}/{case}{ending}"}

    return {
        "dataset": session.plan.dataset,
        "plans": session.plan.plans,
        "dataset_json": session.plan.dataset_json,
        "threads": session.config.engine.threads,
        "train": {case: files(case) for case in session.cases(VAL)},
        "images": {str(TRAIN): {case: images(TRAIN, case) for case in session.cases(TRAIN)}},
    }


def link_fold(preprocessed: Path, dataset: str, fold: Fold, target: Path) -> None:
    """Fill a folder with links to the preprocessed cases that a fold learns from."""
    source, more = preprocessed / dataset, preprocessed / MORE
    root = target / dataset
    root.mkdir(parents=True)
    for file in sorted(source.glob("*.json")):
        link(file, root / file.name)
    for data in (path for path in sorted(source.iterdir()) if path.is_dir()):
        (root / data.name).mkdir()
        for file in of_cases([data, more / data.name], fold.train):
            link(file, root / data.name / file.name)


def of_cases(folders: Iterable[Path], cases: Iterable[str]) -> list[Path]:
    """Return the files of cases: CASE.ending and CASE_seg.ending, as nnU-Net names them."""
    wanted = {name for case in cases for name in (case, f"{case}_seg")}
    files = (file for folder in folders if folder.exists() for file in sorted(folder.iterdir()))
    return [file for file in files if file.name.rpartition(".")[0] in wanted]


def link(source: Path, target: Path) -> None:
    """Give a file a second name; a copy where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
