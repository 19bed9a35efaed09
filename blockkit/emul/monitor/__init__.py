"""The monitor: a machine looked at and told what to do, by programs (QMP) and by people."""
