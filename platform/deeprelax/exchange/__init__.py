"""How the mean of the weights travels: in process, through a parameter server, by collectives."""
