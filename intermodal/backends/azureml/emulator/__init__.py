"""An AzureML workspace on this machine: a control plane that the real client talks to, and an executor that really runs jobs."""
