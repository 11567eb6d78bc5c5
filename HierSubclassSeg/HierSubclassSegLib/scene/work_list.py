"""The cases of a dataset as a work list: what each holds, whether it is finished, and which comes next."""

from __future__ import annotations

from hierseg.dataset import Case, Dataset
from hierseg.errors import HiersegError
from HierSubclassSegLib.scene.case_shares import Share, ShareCache, count_steps
from HierSubclassSegLib.scene.status import Status
from HierSubclassSegLib.ticks import Steps

#: the key of a case in ``dataset.json`` under which its status lies
STATUS = "status"
_WORDS = {
    "NotStarted": Status.NOT_STARTED,
    "InProgress": Status.IN_PROGRESS,
    "Completed": Status.COMPLETED,
    "Flagged": Status.FLAGGED,
}


class WorkList:
    """An open dataset with what is known of its cases.

    Args:
        dataset: the dataset.

    Attributes:
        dataset: the dataset.
        shares: what has been counted, by case id.
        problems: sentences on cases that cannot be counted, by case id.
        news: ids of cases of which something is newly known; whoever shows them takes them out.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.shares: dict[str, Share] = {}
        self.problems: dict[str, str] = {}
        self.news: list[str] = []
        self._cache = ShareCache(dataset)
        self._keys: dict[str, str] = {}

    @property
    def cases(self) -> list[Case]:
        """All cases, in file order."""
        return self.dataset.cases()

    def count_steps(self) -> Steps[None]:
        """Count what is not known yet, case by case, in small steps; again after a reload, what has changed."""
        cases = self.cases
        # What is remembered is shown at once, before the first file is read.
        missing = []
        for case in cases:
            key = self._cache.key(self.dataset, case)
            if case.id in self._keys and self._keys[case.id] == key:
                continue
            found = self._cache.get(key)
            self._forget(case.id)
            self.news.append(case.id)
            if found is not None:
                self.shares[case.id], self._keys[case.id] = found, key
            else:
                missing.append((case, key))
            yield 0.0
        for index, (case, key) in enumerate(missing):
            try:
                path = self.dataset.label_path(case)
                if path is not None:
                    self.shares[case.id] = yield from count_steps(path, self.dataset.tree)
                    self._cache.put(key, self.shares[case.id])
            except HiersegError as error:
                self.problems[case.id] = error.sentence
            self._keys[case.id] = key
            self.news.append(case.id)
            yield index / len(missing)
        self._cache.save(set(self._keys.values()))

    def status(self, case: Case) -> Status | None:
        """What somebody has said, else what the voxels say; None while they are not counted.

        A case is not started while nothing fine is in it, and completed when nothing coarse or unlabelled is left.
        """
        said = case.extra.get(STATUS)
        if isinstance(said, str) and said in _WORDS:
            return _WORDS[said]
        if case.label is None:
            return Status.NOT_STARTED
        share = self.shares.get(case.id)
        if share is None:
            return None
        if share.fine == 0:
            return Status.NOT_STARTED
        return Status.IN_PROGRESS if share.coarse + share.unlabelled else Status.COMPLETED

    def set_status(self, case_id: str, status: Status | None) -> None:
        """Say a case's status; None: what the voxels say.

        Raises:
            DatasetError: the dataset cannot be changed.
        """
        word = next((word for word, known in _WORDS.items() if known is status), None)
        self.dataset.set_extra(case_id, STATUS, word)

    def next_unfinished(self, after: str | None) -> Case | None:
        """The next case that is not completed, from the one after a case on, around the end; None if there is no other."""
        cases = self.cases
        start = next((index + 1 for index, case in enumerate(cases) if case.id == after), 0)
        order = cases[start:] + cases[:start]
        return next(
            (case for case in order if case.id != after and self.status(case) is not Status.COMPLETED),
            None,
        )

    def unfinished(self) -> int:
        """How many cases are not completed."""
        return sum(self.status(case) is not Status.COMPLETED for case in self.cases)

    def _forget(self, case_id: str) -> None:
        for known in (self.shares, self.problems, self._keys):
            known.pop(case_id, None)
