"""Every interpreter that the suite starts knows `mesh+redis://`, also a worker that a test runs as a command."""

from streammesh.transport.transport import install

install()
