"""The distributions, installed and used as a team would that has nothing else."""
