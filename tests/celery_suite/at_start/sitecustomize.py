"""Every interpreter that the suite starts knows `mesh+redis://`, also a worker that a test runs as a command."""

from streammesh.engine.transport import install

install()
