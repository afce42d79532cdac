"""`make restore-drill`: plays the commands of `docs/backup.md` against a real server that holds a mesh."""
