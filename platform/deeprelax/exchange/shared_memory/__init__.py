"""Replicas on the head's machine: the vectors lie in memory that all see, and a local socket carries the words.

A replica copies its message into memory of its own that it shares with the head, and says so over a socket; the head,
which decides who takes part as it does for messages through Ray, averages the members' memory into the center, which
it shares with them, and tells them so. Every piece of memory has one writer, so there is no lock that a dead process
could hold; the memory has no name, so nothing is left on the machine whoever is killed; and the kernel closes the
socket of a process that dies, so the head knows at once.

It takes one copy of a message for each replica, and the center lies in it. Each replica also keeps a copy of the newest
center: a head that dies may leave it half moved. From then on its messages go through Ray.

A process that was stopped may go on while the others have gone further; what it then reads of the center may be half of
one round and half of the next. It is a round late, so its next message is answered with the center, from which it goes
on, and counts nowhere.

``vectors`` is the memory, ``channel`` the socket, ``meeting`` the head's end and ``client`` the replica's.
"""
