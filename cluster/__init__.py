"""Ray for sweeps: on this machine, on a cluster that is joined, and as a job of one."""
