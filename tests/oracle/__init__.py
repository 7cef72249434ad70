"""An interpreter of the KFP IR to judge the engine by: sequential, slow and obvious.

It works on the plain dictionaries of the YAML and shares no code with `intermodal` (it must not even import it). What it knows comes
from `pipeline_spec.proto` and from the driver and the launcher of the open-source KFP backend. A disagreement with the engine is
a defect of one of the two; the KFP backend decides of which.
"""
