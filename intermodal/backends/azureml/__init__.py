"""The AzureML backend: KFP pipelines compiled to pipeline jobs, submitted and followed; and an emulator to prove them on."""
