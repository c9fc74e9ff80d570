"""Tables: sources, formats, kinds of columns, expectations. It imports `core` and `inference`."""
