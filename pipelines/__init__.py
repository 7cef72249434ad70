"""KFP pipelines that chain the components, and nothing else."""
