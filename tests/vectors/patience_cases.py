"""Cases of protocols/vectors/inference.json for a client's patience (INF-42), its times added up by hand."""

from collections.abc import Iterator
from typing import Any

Case = dict[str, Any]


def patience() -> Iterator[Case]:
    """The last stage accepts, then ids come; after each, until when the patience lasts if nothing more does."""
    for name, expected_s, accepted_s, *ids in (
        ("no id, and a minute for the prompt", 0.5, 0),
        ("a minute from the last Accept on", 0.5, 14),
        ("another minute from the first id on", 0.5, 0, (59, 1, 119)),
        ("the minute of the first id is none of those that it adds to", 0.5, 0, (1, 1, 61)),
        ("several ids that are the first", 0.5, 0, (10, 5, 70)),
        ("an id gives back CRAWL_S", 0.5, 0, (10, 1, 70), (30, 1, 78), (50, 1, 86)),
        ("ids that come fast give back a minute at most", 0.5, 0, (10, 1, 70), (11, 1, 71), (12, 1, 72)),
        ("each of several ids gives back as much", 0.5, 0, (10, 1, 70), (50, 3, 94)),
        ("several ids give back a minute at most, too", 0.5, 0, (10, 1, 70), (50, 64, 110)),
        ("silence is borne for a minute, and then for less", 0.5, 0, (10, 1, 70), (69, 1, 78), (77, 1, 86)),
        ("an id that takes as long as it gives back", 0.5, 0, (10, 1, 70), (18, 1, 78), (26, 1, 86), (34, 1, 94)),
        ("CRAWL_FACTOR times what was expected is as much as CRAWL_S", 0.8, 0, (10, 1, 70), (30, 1, 78)),
        ("CRAWL_FACTOR times what was expected is more", 2.5, 0, (10, 1, 70), (60, 1, 95), (94, 1, 120)),
        ("several ids of which more was expected", 2.5, 0, (10, 1, 70), (65, 2, 120)),
        ("ids of which a minute and more was expected", 7.5, 0, (10, 1, 70), (69, 1, 129), (128, 1, 188)),
    ):
        steps = [{"at_s": at_s, "ids": count, "until_s": until_s} for at_s, count, until_s in ids]
        yield {
            "name": name,
            "rule": "INF-42",
            "expected_s": expected_s,
            "accepted_s": accepted_s,
            "until_s": accepted_s + 60,
            "steps": steps,
        }
