"""Rows on their way through a server that dies: none is lost and none comes twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeprelax.exchange.server.coordinator import Row
from deeprelax.exchange.server.parcels import Inbox, Outbox, Parcel


class Server:
    """What a server does with parcels; its death loses them, and what it knew of the driver."""

    def __init__(self) -> None:
        self.parcels: list[Parcel] = []
        self.taken: dict[str, int] = {}

    def take(self, parcel: Parcel) -> int:
        self.parcels.append(parcel)
        return self.taken.get(parcel.sender, 0)

    def drain(self) -> list[Parcel]:
        parcels, self.parcels = self.parcels, []
        self.taken |= {parcel.sender: parcel.end for parcel in parcels}
        return parcels


@given(st.lists(st.sampled_from(["row", "beat", "drain", "die"])))
def test_whenever_a_server_dies_the_driver_has_every_row_once_and_in_order(acts: list[str]) -> None:
    outbox, inbox, server = Outbox(), Inbox(), Server()
    told: list[Row] = []
    had: list[Row] = []
    for act in [*acts, "beat", "drain"]:
        if act == "row":
            told.append({"number": len(told)})
            outbox.add(told[-1])
        elif act == "beat":
            parcel = outbox.parcel()
            outbox.delivered(parcel, server.take(parcel))
        elif act == "drain":
            had += [row for parcel in server.drain() for row in inbox.open(parcel)]
        else:
            server = Server()
            outbox.send_again()
    assert had == told


def test_rows_that_the_driver_has_are_not_kept() -> None:
    outbox, server = Outbox(), Server()
    for number in range(3):
        outbox.add({"number": number})
        parcel = outbox.parcel()
        outbox.delivered(parcel, server.take(parcel))
        server.drain()
    outbox.send_again()
    assert [row["number"] for row in outbox.parcel().rows] == [2], "the last one may still be on its way"


@pytest.mark.parametrize("times", [1, 2])
def test_what_a_server_itself_tells_is_not_numbered(times: int) -> None:
    inbox = Inbox()
    assert [inbox.open(Parcel("", 0, [{"event": "lost"}])) for _ in range(times)] == [[{"event": "lost"}]] * times
