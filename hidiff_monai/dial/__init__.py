"""The dial: what each setting of the sampler is worth in Dice, and what it costs in seconds."""
