"""A small shop: three services whose work goes well, is tried again, or is given up, as the payload says."""
