"""The report worker: `report.requested` becomes a PDF in the store and the event `report.generated`."""
