"""The report of `scan --report`: one HTML file, readable without network and without scripts."""
