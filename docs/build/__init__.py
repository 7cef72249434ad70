"""The documentation as a site: `make docs`. The pages are those of docs/, the README and the steps' own; the reference is generated."""
