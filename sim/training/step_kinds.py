"""What the tasks of a training step are called, beside the passes of its pipeline schedule."""

HOST = "host"
LAUNCH = "launch"  # by the host, while a device waits
GATHER = "param gather"
REDUCE = "grad reduce"
TIED = "tied embedding"
GRAD_NORM = "grad norm"
OPTIMIZER = "optimizer"
SEND_FORWARD = "send forward"
SEND_BACKWARD = "send backward"
