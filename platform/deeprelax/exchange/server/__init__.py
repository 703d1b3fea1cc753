"""The parameter server: members come and go, the center stays.

``coordinator`` decides who takes part in a round and when it closes, ``wire`` is what travels, ``actor`` are the Ray
actors, ``servers`` is the driver's handle on them and ``client`` the replica's end.
"""
