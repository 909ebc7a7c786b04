"""`mmdf bench extract`: the speed of stage one as ratios, all of them measured in one run on one machine.

A ratio survives a change of machine better than frames a second do: the bare forward pass, the separate passes and the
plain loop run beside ours, in turn, on the same files and with the same weights. Sizes of models are the published
ones; the weights are random and seeded, so nothing is fetched.
"""
