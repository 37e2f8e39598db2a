"""Box (c) of Fig. 5: axes, limits (4)(5), features, exposure, state (2)(3), reward (6) and the experts' scale. Pure."""
