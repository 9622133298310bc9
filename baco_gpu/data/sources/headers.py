"""Which columns of a table hold users, items, ratings and timestamps: what their names say, or who asks for them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from baco_gpu.errors import InputError

# Names are compared in small letters, without anything between their words: customerid for "Customer ID". What comes
# first in a list counts before what comes later: a device_id beside a user_id is no user.
_USER = (
    "user|usr|customer|cust|client|consumer|buyer|shopper|account|acct|member|subscriber|visitor|fullvisitor|viewer|"
    "listener|reader|reviewer|rater|session|uid|sid|msno"
)
_ALSO_USER = "player|patient|student|learner|person|profile|household|patron|borrower|guest|device|cookie|who"
_ITEM = "item|product|prod|article|movie|film|track|song|artist|book|sku|stock|asin|iid|isbn"
_ALSO_ITEM = (
    "album|gtin|ean|upc|video|show|anime|game|app|recipe|news|business|restaurant|hotel|listing|course|joke|podcast|poi|"
    "venue|what"
)
_ANYBODY, _ANYTHING = f"(?:{_USER}|{_ALSO_USER})", f"(?:{_ITEM}|{_ALSO_ITEM})"
_ID = "(?:ids?|uuid|guid|key|code|index|idx|no|num|nr|number|hash|sku|asin|isbn)"
_ROLES = {
    "user": (
        f"(?:{_USER})s?{_ID}?|id(?:{_USER})",
        f"(?:{_ALSO_USER})s?{_ID}?|id(?:{_ALSO_USER})",
        f"{_ANYBODY}s?name",
        "u",
    ),
    "item": (
        f"(?:{_ITEM})s?{_ID}?|id(?:{_ITEM})",
        f"(?:{_ALSO_ITEM})s?{_ID}?|id(?:{_ALSO_ITEM})",
        f"{_ANYTHING}s?(?:name|title)|page|url|post|ad|location|place",
        "i",
    ),
    "rating": ("ratings?", f"(?:{_ANYBODY}|{_ANYTHING}|review)?(?:rating|score|star)s?|overall|rate|grade"),
    "timestamp": (
        "timestamps?",
        "(?:event|click|order|invoice|review|unix|unixreview|rating|view|visit|purchase|transaction|interaction|server|"
        "local|utc|start|session)?(?:timestamp|datetime|date|time|ts)s?(?:ms|s|utc|at)?|"
        "(?:created|updated|added|rated|clicked|viewed|watched|played|read|bought|purchased|ordered|visited)"
        "(?:at|on|time|date)?|t|dt|tdat|day|when|epoch|ds",
    ),
}
# What else is never taken for users or items, unless it is asked for: the numbers of rows, and amounts and the like.
_ROW_LABELS = (
    r"|unnamed\d*|index|(?:index)?level\d+(?:index)?|row|rownames?|id|uuid|guid|"
    r"(?:row|record|event|entry|line|log|interaction|click|view|review|rating)(?:nr|no|num|number|index|idx|id|uuid)"
)
_AMOUNTS = (
    r"(?:weight|count|freq|frequency|listen|click|view|purchase|play|price|value|amount|label|size)s?|w|n|r|num|counts|"
    r"playcount|quantity|qty|strength|implicit|feedback|preference|event|action|review"
)
# Nor what is said of somebody or something: age and item_price, and how many there are, as in num_users.
_SAID = (
    r"age|gender|sex|occupation|income|zip|zipcode|postcode|postalcode|country|language|locale|currency|os|browser|"
    r"platform|channel|status|type|price|counts?|freq|frequency|amount|total|quantity|qty|value|weight"
)
_FACTS = (
    f"(?:{_ANYBODY}|{_ANYTHING})?s?(?:{_SAID})|"
    f"(?:num|number|n|total|count|avg|mean|max|min)(?:of)?(?:{_ANYBODY}|{_ANYTHING})s?"
)
# What is no id of anybody or anything, and so marks a header by itself.
_NO_ID = re.compile(f"(?:user|item|customer)s?|(?:{_ANYBODY}|{_ANYTHING})s?{_ID}")
OPTIONS = {role: f"--{role}-column, or {role}_column=" for role in _ROLES}


class Usual(str):
    """The usual name of a column that is needed and that nobody named: where it is missing, a similar one stands in."""

    __slots__ = ()


@dataclass(frozen=True)
class ColumnNames:
    """Which columns to read; None stands for those whose names say user and item, and for none of the others."""

    user: str | None = None
    item: str | None = None
    weight: str | None = None
    rating: str | None = None
    timestamp: str | None = None

    @property
    def named(self) -> dict[str, str]:
        """The roles whose column has a name, and that name."""
        return {role: name for role, name in vars(self).items() if name is not None}


def positions_of(
    source: object, header: list[str], names: ColumnNames, *, aside: Collection[str] = (), nameless: bool = False
) -> dict[str, int]:
    """Positions of the columns by their role: user and item, and those with a name.

    Users and items that are not asked for by name are the columns whose names say so, such as customer_id and
    StockCode. Where no name does, they are what is left, in order, once times, amounts and numbers of rows are taken
    out: two columns, or the one beside a side that is known.

    Parameters
    ----------
    source : object
        What an error names.
    header : list of str
        The names of all columns.
    names : ColumnNames
    aside : collection of str
        Columns that only their name chooses: an index, or what the names of folders say.
    nameless : bool
        Whether `header` holds but the numbers of the columns: then the first two are users and items.

    Raises
    ------
    InputError
        If a column is missing, has the name of another, has two roles, or the names leave open which one it is.
    """
    found = {role: _find(source, header, role, name) for role, name in names.named.items()}
    if nameless:
        found = {"user": 0, "item": 1} | found
    else:
        for role in ("user", "item"):
            if role not in found and (position := _by_name(source, header, role)) is not None:
                found[role] = position
        found |= _left_over(source, header, found, aside)
    positions = {role: found[role] for role in ("user", "item")} | found
    user, item = positions["user"], positions["item"]
    if user == item:
        raise InputError(f"{source}: users and items must be different columns, got {header[user]!r} for both")
    for role, position in positions.items():
        if role not in ("user", "item") and position in (user, item):
            raise InputError(f"{source}: {role}s must be a column of their own, got {header[position]!r}")
        if (count := header.count(header[position])) > 1:
            raise InputError(f"{source}: expected columns of different names, got {header[position]!r} {count} times")
    return positions


def labels_of(
    source: object, header: list[str], names: ColumnNames, aside: Collection[str] = (), *, nameless: bool = False
) -> dict[str, str]:
    """The names of the columns of a table by their role; as `positions_of`, and InputError for fewer than two."""
    if len(header) < 2:
        raise InputError(f"{source}: expected at least two columns, got {len(header)}")
    positions = positions_of(source, header, names, aside=aside, nameless=nameless)
    return {role: header[at] for role, at in positions.items()}


def says(name: str, role: str) -> bool:
    """Whether the name of a column says that it holds users, or items."""
    return any(re.fullmatch(pattern, _key(name)) for pattern in _ROLES[role][:3])


def is_no_id(cell: str) -> bool:
    """Whether a cell is the name of a column and no id: neither customer_id nor user is anybody's."""
    return _NO_ID.fullmatch(_key(cell)) is not None


def numbers_rows(name: str) -> bool:
    """Whether a column of this name, or without one, holds the numbers of the rows."""
    return re.fullmatch(_ROW_LABELS, _key(name)) is not None


def _key(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.partition(":")[0]).lower()


def _find(source: object, header: list[str], role: str, name: str) -> int:
    if name in header:
        return header.index(name)
    position = _by_name(source, header, role) if isinstance(name, Usual) else None
    if position is None:
        found = ", ".join(repr(column) for column in header if column)
        raise InputError(f"{source}: expected a column {name!r}, the columns are {found}")
    return position


def _by_name(source: object, header: list[str], role: str) -> int | None:
    """The column whose name says its role, None without one; InputError where two do."""
    keys = set(map(_key, header))
    for pattern in _ROLES[role]:
        if pattern == "i" and "j" in keys and "u" not in keys:
            continue  # the row of a matrix beside the column
        found = list(dict.fromkeys(name for name in header if re.fullmatch(pattern, _key(name))))
        if len(found) > 1:
            raise InputError(
                f"{source}: expected one column of {role}s, and it could be {_listed(found)} "
                f"(say which: {OPTIONS[role]})"
            )
        if found:
            return header.index(found[0])
    return None


def _left_over(source: object, header: list[str], found: dict[str, int], aside: Collection[str]) -> dict[str, int]:
    """The columns of users and of items whose names do not say so."""
    missing = [role for role in ("user", "item") if role not in found]
    if not missing:
        return {}
    other = re.compile("|".join((*_ROLES["rating"], *_ROLES["timestamp"], _ROW_LABELS, _AMOUNTS, _FACTS)))
    left = [
        at
        for at, name in enumerate(header)
        if at not in found.values() and name not in aside and not other.fullmatch(_key(name))
    ]
    if len(left) != len(missing) or _of_a_matrix([header[at] for at in left], missing):
        sides = " and ".join(f"a column of {role}s" for role in missing)
        raise InputError(
            f"{source}: expected {sides}, and no name says which of {_listed(header)} it is "
            f"(say so: {'; '.join(OPTIONS[role] for role in missing)}; a matrix of users by items is no table of "
            "pairs: BipartiteGraph.from_dense takes its values)"
        )
    return dict(zip(missing, left, strict=True))


def _of_a_matrix(names: list[str], roles: list[str]) -> bool:
    """Whether names are those of items in a matrix of one or two: 17 and 42, or movie_17 where users are sought.

    Frames made of arrays have 0 and 1.
    """
    if len(names) == 2 and names != ["0", "1"] and all(re.fullmatch(r"[\d.]+", name) for name in names):
        return True
    other = {"user": "item", "item": "user"}
    return any(says(name.rstrip("0123456789"), other[role]) for name, role in zip(names, roles, strict=True))


def _listed(names: Iterable[str], most: int = 10) -> str:
    shown = [repr(name) for name in names]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")
