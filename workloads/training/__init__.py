"""What a training step must compute: operators of layers forward and backward, and what they keep in between."""
