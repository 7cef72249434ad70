"""PipelineSpec as typed, frozen values. Knows no backend."""
