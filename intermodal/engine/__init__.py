"""What every local run shares: graph, scheduler, fingerprint, artifact store, run database."""
