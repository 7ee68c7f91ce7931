"""The planned cases of one process, in the order in which the program must report them."""

from collections.abc import Sequence

from harness.model.plan import PlannedCase


class Unplanned(Exception):
    """A result that the plan does not ask for. The text says what is wrong with it."""


class Order:
    """Follows a process through its planned cases, each a number and a name.

    Without planned cases every result is taken by its printed name, each name once.
    """

    def __init__(self, cases: Sequence[PlannedCase]) -> None:
        self._planned = tuple((int(case.selector), case.case.path[1]) for case in cases)
        self._index = {number: index for index, (number, _) in enumerate(self._planned)}
        self._next = 0
        self._seen: set[str] = set()

    @property
    def in_flight(self) -> tuple[int, str] | None:
        """Number and name of the first case without a result."""
        return self._planned[self._next] if self._next < len(self._planned) else None

    def planned_name(self, number: int) -> str | None:
        """The name that goes with a number; None when that number is not planned."""
        index = self._index.get(number)
        return None if index is None else self._planned[index][1]

    def awaits(self, number: int, name: str) -> bool:
        """Whether this number and name are planned together, and not passed yet."""
        index = self._index.get(number, -1)
        return index >= self._next and self._planned[index][1] == name

    def take(self, number: int, name: str) -> tuple[str, ...]:
        """Note a result; return the names that it passed over: they will not come any more.

        Raises Unplanned for a number that was not asked for, for one that goes with another name,
        and for a case that has been passed or has its result.
        """
        if name in self._seen:
            raise Unplanned(f"#{number} {name} reported a result twice")
        passed = self.pass_to(number, name)
        self._seen.add(name)
        self._next += 1
        return passed

    def take_rest(self) -> tuple[str, ...]:
        """Return the names that are still without a result: none will come any more."""
        rest = tuple(name for _, name in self._planned[self._next :])
        self._next = len(self._planned)
        return rest

    def pass_to(self, number: int, name: str) -> tuple[str, ...]:
        """Make a case the one in flight; return the names passed over. Raises as `take` does."""
        if not self._planned:
            return ()
        index = self._index.get(number)
        if index is None:
            raise Unplanned(f"#{number} {name} was not asked for")
        if self._planned[index][1] != name:
            raise Unplanned(f"#{number} is {self._planned[index][1]} in the plan, not {name}")
        if index < self._next:
            raise Unplanned(f"#{number} {name} came after a later case")
        passed = tuple(name for _, name in self._planned[self._next : index])
        self._next = index
        return passed
